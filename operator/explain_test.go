package operator

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/fleet"
	"github.com/tucdesk/tucdesk/operator/remote"
	"github.com/tucdesk/tucdesk/operator/teamtest"
)

// What ssh and exec take for a machine, policy explain takes as well.
func TestExplainTakesMachinesAsExecDoes(t *testing.T) {
	m := teamtest.NewTeam(t)
	a := m.Account(t)
	machines, bad := a.Verified([]wire.AgentInfo{m.Machine("web", m.Enroller), m.Machine("db", m.Enroller)}, time.Now())
	if bad > 0 || len(machines) != 2 {
		t.Fatalf("%d machines, %d bad", len(machines), bad)
	}
	by := map[string]account.Machine{"web": machines[0], "db": machines[1]}
	for typed, want := range map[string]string{
		"web": "web  allow", "web.tucdesk": "web  allow", "@agent@web": "web  allow", "deploy@web": "web deploy deny", "deploy@db,web": "db deploy deny, web deploy deny",
	} {
		o := &policyExplain{}
		ask, err := o.read([]string{typed, "exec", "--", "id"})
		if err != nil {
			t.Fatalf("%q: %v", typed, err)
		}
		targets := []fleet.Target{}
		if one, ok := ask.machines.One(); ok {
			targets = append(targets, one)
		} else {
			targets = teamtest.Must(remote.Pick(a, ask.machines, machines))
		}
		var got []string
		for _, at := range targets {
			v, text, err := o.explain(a, by[at.Name], at.User, ask)
			if err != nil || !strings.HasPrefix(text, v.Effect+": ") {
				t.Errorf("%q: %q, %v", typed, text, err)
			}
			if strings.Contains(text, "\nvariables that --env may set: ") != (v.Effect != "deny") || !slices.Contains(v.Env, "LC_ALL") {
				t.Errorf("%q: variables in %q and %q", typed, text, v.Env)
			}
			if raw := string(mustJSON(t, v)); !strings.Contains(raw, `"onlyMachine":[]`) {
				t.Errorf("%q: %s", typed, raw)
			}
			got = append(got, strings.Join([]string{v.Host, v.User, v.Effect}, " "))
		}
		if text := strings.Join(got, ", "); text != want {
			t.Errorf("%q: %q, want %q", typed, text, want)
		}
	}
}

func TestExplainNamesWhatIsWrongBeforeItAsksAnybody(t *testing.T) {
	for line, hint := range map[string]string{
		"web":                         "tucdesk policy explain ",
		"web dance":                   "write shell, exec",
		"web, shell":                  "--help",
		"web shell --json":            "flags stand before the action",
		"--at noon web shell":         "write it as 2026-",
		"web --at noon exec -- id -u": "write it as 2026-",
		"--at tomorrow web shell":     "\"tomorrow\" is not a time",

		"web background now":                 "nothing stands behind background",
		"web ping x":                         "nothing stands behind ping",
		"web forward-agent x":                "hint: tucdesk policy explain web forward-agent",
		"web forward localhost:80":           "hint: tucdesk policy explain web forward-remote 8080",
		"web copy /etc/passwd":               "policy explain web copy-read /etc/hostname",
		"a,b forward-local db":               "hint: tucdesk policy explain a,b forward-local localhost:80",
		"web forward-local localhost:80 x:1": "one word stands behind forward-local, and here are 2",
		"web copy-read hosts":                "hint: tucdesk policy explain web copy-read /etc/hostname",
	} {
		args := append([]string{"policy", "explain", "--state", t.TempDir()}, strings.Fields(line)...)
		if status, out, talk := tucdesk(t, args...); status != cli.ExitUsage || out != "" || !strings.Contains(talk, hint) || strings.Contains(talk, "2006") {
			t.Errorf("%q: status %d, printed %q, said %q", line, status, out, talk)
		}
	}
}

// A shell completes the machine behind the user, and the last one of a list.
func TestCompletionOfMachinesKeepsWhatStandsBefore(t *testing.T) {
	m := teamtest.NewTeam(t)
	m.Account(t)
	if err := m.Home.WriteJSON("agents.json", []wire.AgentInfo{m.Machine("web", m.Enroller), m.Machine("db", m.Enroller)}); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{"ssh w": "web", "ssh deploy@w": "deploy@web", "exec deploy@db,w": "deploy@db,web", "policy explain deploy@d": "deploy@db"} {
		words := strings.Fields(line)
		args := append([]string{"__complete"}, words[:len(words)-1]...)
		args = append(args, "--state", m.Home.Dir, words[len(words)-1])
		if _, out, talk := tucdesk(t, args...); !strings.HasPrefix(out, want+"\n") {
			t.Errorf("%q: %q, %q", line, out, talk)
		}
	}
}

// What stands behind the action is what the rules are asked about, as the machine asks
// them: the hint of a refused forward sends people here.
func TestP4ExplainLooksAtTheTargetAndThePath(t *testing.T) {
	m := teamtest.NewTeam(t)
	a := m.Account(t)
	machines, _ := a.Verified([]wire.AgentInfo{m.Machine("web", m.Enroller)}, time.Now())
	for line, want := range map[string]struct{ effect, depends, said string }{
		"forward-local 169.254.169.254:80": {"deny", "", "deny: no forward goes to cloud metadata"},
		"forward-local /run/docker.sock":   {"deny", "", "deny: no forward goes to a socket"},
		"forward-local -- db.lan:5432":     {"allow", "", "allow: "},
		"forward-remote 0.0.0.0:80":        {"deny", "", "deny: a forward listens on localhost"},
		"forward-remote *:8080":            {"deny", "", "deny: a forward listens on localhost"},
		"forward-remote :8080":             {"deny", "", "deny: a forward listens on localhost"},
		"forward-remote 8080":              {"allow", "", "allow: "},
		"forward-remote":                   {"allow", "target", "allow, depending on the target: "},
		"copy-read /etc/passwd":            {"allow", "", "allow: "},
		"copy-read":                        {"allow", "", "allow: "},
	} {
		o := &policyExplain{}
		ask, err := o.read(append([]string{"web"}, strings.Fields(line)...))
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		v, text, err := o.explain(a, machines[0], "", ask)
		if err != nil || v.Effect != want.effect || v.DependsOn != want.depends || !strings.HasPrefix(text, want.said) {
			t.Errorf("%q: %s depending on %q, %v\n%s", line, v.Effect, v.DependsOn, err, text)
		}
	}
}
