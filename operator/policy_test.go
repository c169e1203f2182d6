package operator

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/teamtest"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// A rules file comes from a colleague, by a name of the colleague's.
func TestJ1RulesFilesCannotSpeakToTheTerminal(t *testing.T) {
	const name = "rules\x1b]0;x\a.toml"
	rules, err := policy.Parse([]byte("version = 1\nmode = 'enforce'\n[[expect]]\nname = '\u009b2J\u202e'\naction = 'shell'\nrole = 'viewer'\nwant = 'allow'\n"))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := testRules(&cli.IO{Out: &out}, name, rules.RunExpectations(), false); err == nil {
		t.Error("an expectation that fails is no error")
	}
	want := `rules\x1b]0;x\x07.toml:3: \u009b2J\u202e: want allow, got deny by no rule: `
	if !strings.HasPrefix(out.String(), want) || strings.ContainsAny(out.String(), "\x1b\a\u009b\u202e") {
		t.Errorf("printed %q, want %q", &out, want)
	}
}

// A second key makes nobody a second person, and one whose time is over makes nobody
// an approver.
func TestWhoMayApproveIsCountedInPeople(t *testing.T) {
	m := teamtest.NewTeam(t)
	a := m.Account(t)
	now := time.Now()
	news := wire.RosterNews{Policy: m.Text, Updates: []wire.RosterUpdate{m.Next(a, func(r *roster.Roster) {
		k := teamtest.Generate[key.Operator]().Public()
		r.Operators = append(r.Operators, roster.Operator{Key: k, Email: "ann@example.org", Person: "ann", Role: policy.Operator, NotAfter: wire.At(now.Add(time.Hour))})
	})}}
	if err := a.Learn(news); err != nil {
		t.Fatal(err)
	}
	both := policy.Roles(policy.Admin, policy.Operator)
	for at, want := range map[time.Time][]policy.RoleSet{
		now:                    {policy.Roles(policy.Approver), both},
		now.Add(2 * time.Hour): {policy.Roles(policy.Approver), policy.Roles(policy.Admin)},
	} {
		got := rolesOf(a.State, at)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("at %v: %v, want %v", at.Sub(now), got, want)
		}
	}
}

// Whoever writes a policy finds each key in the help, as the file is read.
func TestHelpOfPolicyNamesEveryKey(t *testing.T) {
	for table, help := range map[string]string{"expect": expectKeys, "allow": ruleKeys, "allow.who": ruleKeys, "allow.where": ruleKeys, "allow.when": ruleKeys, "allow.approval": ruleKeys, "allow.limits": ruleKeys} {
		name, below, _ := strings.Cut(table, ".")
		if below != "" {
			below += "."
		}
		_, err := policy.Parse([]byte("version = 1\nmode = \"enforce\"\n[[" + name + "]]\n" + below + "qqqqqq = 1\n"))
		if err == nil {
			t.Fatalf("%s takes any key", table)
		}
		_, list, found := strings.Cut(err.Error(), "the keys there are ")
		if !found {
			t.Fatalf("%s: %v", table, err)
		}
		for _, k := range strings.Split(list, ", ") {
			if !regexp.MustCompile(`\b` + regexp.QuoteMeta(k) + `\b`).MatchString(help) {
				t.Errorf("the help does not have %s of %s", k, table)
			}
		}
	}
}

// The example in the help is one that can be copied.
func TestExampleInTheHelpOfPolicyTestIsRead(t *testing.T) {
	_, example, _ := strings.Cut(expectKeys, "\n  [[expect]]")
	if _, err := policy.Parse([]byte("version = 1\nmode = \"enforce\"\n[[expect]]" + example)); err != nil {
		t.Error(err)
	}
}
