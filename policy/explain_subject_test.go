package policy

import (
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

const subjects = `
[[allow]]
id = "sockets"
who.roles = ["operator"]
actions = ["forward-local"]
targets = ["/run/app.sock"]
[[allow]]
id = "logs"
who.roles = ["operator"]
actions = ["copy-read"]
roots = ["/var/log", "/srv/out"]
[[allow]]
id = "open"
who.roles = ["admin"]
actions = ["forward", "copy"]
[[block]]
id = "mail"
actions = ["forward-local"]
targets = ["mail.lan:25"]
`

// An answer for what was not said is none for everything: it says what it depends on,
// and each rule what it opens.
func TestExplainSaysWhatTheAnswerDependsOn(t *testing.T) {
	rules := load(t, subjects)
	for _, c := range []struct {
		role    Role
		action  Action
		target  string
		path    string
		head    string
		depends string
		also    string
	}{
		{Operator, ForwardLocal, "", "", "allow, depending on the target: allowed by rule sockets\n", "target", ": every condition holds, for the targets /run/app.sock\n"},
		{Operator, ForwardLocal, "/run/app.sock", "", "allow: allowed by rule sockets\n", "", ": every condition holds\n"},
		{Operator, ForwardLocal, "169.254.169.254:80", "", "deny: no allow rule names this target\n", "", ": it is for other targets: /run/app.sock\n"},
		{Operator, ForwardLocal, "/run/docker.sock", "", "deny: no allow rule names this target\n", "", ""},
		{Operator, CopyRead, "", "", "allow, depending on the path: allowed by rule logs\n", "path", ", for files in /var/log, /srv/out\n"},
		{Operator, Copy, "", "", "allow, depending on the path: allowed by rule logs\n", "path", ""},
		{Operator, CopyRead, "", "/var/log/syslog", "allow: allowed by rule logs\n", "", ""},
		{Operator, CopyRead, "", "/srv/out", "allow: allowed by rule logs\n", "", ""},
		{Operator, CopyRead, "", "/etc/passwd", "deny: the path is in none of the folders that the rules open for this\n", "", ""},
		{Operator, CopyRead, "", "/var/logs", "deny: the path is in none of the folders that the rules open for this\n", "", ""},
		{Operator, CopyWrite, "", "/var/log/x", "deny: ", "", ""},
		{Admin, ForwardLocal, "", "", "allow, depending on the target: allowed by rule open\n", "target", "to reach everything but sockets and cloud metadata"},
		{Admin, ForwardLocal, "", "", "allow, depending on the target: allowed by rule open\n", "target", "no  block mail (line 18): it depends on the target; it is for: mail.lan:25\n"},
		{Admin, ForwardLocal, "mail.lan:25", "", "deny: blocked by rule mail\n", "", ""},
		{Admin, ForwardLocal, "169.254.169.254:80", "", "deny: no forward goes to cloud metadata unless a rule names the address itself\n", "", ""},
		{Admin, ForwardRemote, "", "", "allow, depending on the target: allowed by rule open\n", "target", "to listen at localhost alone"},
		{Admin, ForwardRemote, "0.0.0.0:80", "", "deny: a forward listens on localhost unless a rule names the address\n", "", ""},
		{Admin, Forward, "", "", "allow, depending on the target: allowed by rule open\n", "target", "to reach everything but sockets and cloud metadata, which a rule has to name; to listen at localhost"},
		{Admin, CopyRead, "", "", "allow: allowed by rule open\n", "", ": every condition holds\n"},
		{Admin, CopyRead, "", "/etc/passwd", "allow: allowed by rule open\n", "", ""},
		{Viewer, ForwardLocal, "", "", "deny: ", "", ""},
	} {
		e := rules.Explain(&Request{Action: c.action, Target: c.target, Role: c.role, Agent: "web-1"}, noon)
		if c.path != "" {
			e = e.ForPath(c.path)
		}
		if text := e.String(); !strings.HasPrefix(text, c.head) || !strings.Contains(text, c.also) || e.Depends != c.depends {
			t.Errorf("%v %s %q %q depends on %q:\n%swant %s%s", c.role, c.action, c.target, c.path, e.Depends, text, c.head, c.also)
		}
	}
}

func TestPathsThatPeopleWrite(t *testing.T) {
	for text, want := range map[string]string{"/": "/", "/etc/": "/etc", "/etc//x": "/etc/x", "/var/log/../../etc/passwd": "/etc/passwd", "//x": "/x", `C:\x`: `C:\x`, "/var/log/*.log": "/var/log/*.log"} {
		if got, err := ReadPath(text); err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "~/x", "./x", `C:\x\..\y`, "C:x", "/a\x00", "/" + strings.Repeat("x", maxPath)} {
		if got, err := ReadPath(text); refusal.Of(err) != refusal.BadArgument {
			t.Errorf("%q is %q, %v", text, got, err)
		}
	}
}
