package operator

import (
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/operator/teamtest"
)

// A shell that is offered nothing offers the files of the folder, which none of these is.
func TestCompletionKnowsPeopleTagsRolesAndActions(t *testing.T) {
	m := teamtest.NewTeam(t)
	roster := m.Account(t).State.Roster()
	email, tag := roster.Operators[0].Email, roster.Enrollers[0].Tags[0]
	for line, want := range map[string]string{
		"operator revoke " + email[:2]:                        email,
		"operator add bob@example.com KEY --role app":         "approver",
		"token create --tags " + tag[:1]:                      tag,
		"token create --tags other," + tag[:1]:                "other," + tag,
		"policy explain web forward-l":                        "forward-local",
		"policy explain --email bob@example.com web copy-rea": "copy-read",
	} {
		words := strings.Fields(line)
		args := append([]string{"__complete", words[0], words[1], "--state", m.Home.Dir}, words[2:]...)
		if _, out, talk := tucdesk(t, args...); !strings.HasPrefix(out, want+"\n") || !strings.Contains(out, "\n:4\n") {
			t.Errorf("%q: %q, %q", line, out, talk)
		}
	}
}
