package policy

import (
	"slices"
	"strings"
	"testing"
)

const forwardRules = `version = 1
mode = "enforce"
[[allow]]
id = "db"
who.roles = ["operator"]
actions = ["forward-local"]
targets = ["db.lan:5432", "10.0.0.7:*", "[fd00::1]:80", "/run/app.sock"]
[[allow]]
id = "listen"
who.roles = ["admin"]
actions = ["forward", "forward-agent"]
[[allow]]
id = "read"
who.roles = ["operator"]
actions = ["copy-read"]
[[block]]
id = "no-mail"
who.roles = ["admin"]
actions = ["forward-local"]
targets = ["mail.lan:25"]
`

func TestForwardsAreJudgedByDirectionAndTarget(t *testing.T) {
	r, err := Parse([]byte(forwardRules))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		role   Role
		action Action
		target string
		want   Effect
		named  bool
	}{
		{Operator, ForwardLocal, "db.lan:5432", Allow, true},
		{Operator, ForwardLocal, "db.lan:5433", Deny, false},
		{Operator, ForwardLocal, "10.0.0.7:1", Allow, true},
		{Operator, ForwardLocal, "10.0.0.77:1", Deny, false},
		{Operator, ForwardLocal, "[fd00::1]:80", Allow, true},
		{Operator, ForwardLocal, "/run/app.sock", Allow, true},
		{Operator, ForwardLocal, "/run/app.sock/x", Deny, false},
		{Operator, ForwardRemote, "db.lan:5432", Deny, false},
		{Operator, Forward, "", Allow, true},
		{Operator, ForwardAgent, "", Deny, false},
		{Operator, Copy, "", Allow, false},
		{Operator, CopyRead, "", Allow, false},
		{Operator, CopyWrite, "", Deny, false},
		{Admin, ForwardLocal, "anything.lan:1", Allow, false},
		{Admin, ForwardLocal, "mail.lan:25", Deny, false},
		{Admin, ForwardRemote, "mail.lan:25", Deny, false},
		{Admin, ForwardRemote, "localhost:25", Allow, false},
		{Admin, Forward, "", Allow, false},
		{Admin, ForwardAgent, "", Allow, false},
		{Admin, Copy, "", Deny, false},
		{Viewer, Forward, "", Deny, false},
	} {
		q := Request{Action: c.action, Target: c.target, Role: c.role, Agent: "web-1"}
		if d := r.Decide(&q, anyTime); d.Effect != c.want || d.Named != c.named {
			t.Errorf("%v %s %q: %v, named %v (%s)", c.role, c.action, c.target, d.Effect, d.Named, d.Reason)
		}
	}
}

func TestTargetsHaveOneSpelling(t *testing.T) {
	for _, c := range []struct{ host, want string }{{"DB.lan.", "db.lan:80"}, {"::1", "[::1]:80"}, {"10.0.0.1", "10.0.0.1:80"}, {"0::1", "[::1]:80"}, {"0:0:0:0:0:0:0:1", "[::1]:80"}, {"::ffff:127.0.0.1", "127.0.0.1:80"}, {"2001:DB8:0:0::1", "[2001:db8::1]:80"}} {
		if got, ok := Target(c.host, 80); !ok || got != c.want {
			t.Errorf("%q gives %q, %v", c.host, got, ok)
		}
	}
	for _, host := range []string{"", "-x", "a b", "a/b", "a\x00", "*"} {
		if got, ok := Target(host, 80); ok {
			t.Errorf("%q gives %q", host, got)
		}
	}
	for _, bad := range []string{"db", "db:0", "db:", ":5", "DB:5", "db:080", "db:99999", "[db]:5", "::1:5", "/a/../b", "relative/x", "[::1]", "*:5", "[0::1]:5", "[0::1]:*", "[::ffff:127.0.0.1]:5"} {
		if err := new(target).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a target", bad)
		}
	}
}

// TestP1BlockRulesAreNotEvadedBySpelling: of a target, or of a folder.
func TestP1BlockRulesAreNotEvadedBySpelling(t *testing.T) {
	r, err := Parse([]byte(`version = 1
mode = "enforce"
[[allow]]
id = "all"
who.roles = ["operator"]
actions = ["exec", "forward"]
[[block]]
id = "folder"
actions = ["exec"]
cwd = ["/srv/secret", 'C:\secret']
[[block]]
id = "database"
actions = ["forward"]
targets = ["127.0.0.1:5432", "10.0.0.1:*"]
[[allow]]
id = "one"
who.roles = ["admin"]
actions = ["forward"]
targets = ["127.0.0.1:80"]
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, cwd := range []string{"/srv/secret", "/srv/secret/", "/srv/secret/.", "/srv//secret", "/srv/x/../secret", "srv/secret", `C:\secret`, `c:\SECRET`, `C:\secret\`, `C:/secret`} {
		q := Request{Action: Exec, Role: Operator, Agent: "web", Cwd: cwd, Argv: [][]byte{[]byte("ls")}, File: "/bin/ls"}
		if d := r.Decide(&q, anyTime); d.Effect != Deny {
			t.Errorf("in %s: %v", cwd, d.Effect)
		}
	}
	for _, host := range []string{"127.0.0.1", "::1", "0::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "127.0.0.2", "localhost", "LOCALHOST.", "a.localhost", "::ffff:10.0.0.1"} {
		text, ok := Target(host, 5432)
		if d := r.Decide(&Request{Action: ForwardLocal, Role: Operator, Agent: "web", Target: text}, anyTime); !ok || d.Effect != Deny {
			t.Errorf("%s: %v", text, d.Effect)
		}
	}
	for _, host := range []string{"10.0.0.2", "db"} {
		text, _ := Target(host, 5432)
		if d := r.Decide(&Request{Action: ForwardLocal, Role: Operator, Agent: "web", Target: text}, anyTime); d.Effect != Allow {
			t.Errorf("%s: %v", text, d.Effect)
		}
	}
	for host, want := range map[string]Effect{"127.0.0.1": Allow, "::ffff:127.0.0.1": Allow, "0.0.0.0": Deny, "localhost": Deny, "127.0.0.2": Deny} {
		text, _ := Target(host, 80)
		if d := r.Decide(&Request{Action: ForwardRemote, Role: Admin, Agent: "web", Target: text}, anyTime); d.Effect != want {
			t.Errorf("an allow rule for one address and %s: %v", text, d.Effect)
		}
	}
}

func TestTargetsStandOnlyInRulesForForwards(t *testing.T) {
	if _, err := Parse([]byte("version = 1\nmode = \"enforce\"\n[[allow]]\nid = \"a\"\nwho.roles = [\"admin\"]\nactions = [\"shell\", \"forward\"]\ntargets = [\"a:1\"]\n")); err == nil {
		t.Error("a rule for shells with targets is taken")
	}
}

// A part that needs approval makes the whole need it: nobody gets at files to be
// written by asking for both.
func TestCopyAsksForWhatEitherDirectionAsksFor(t *testing.T) {
	r, err := Parse([]byte("version = 1\nmode = \"enforce\"\n[[allow]]\nid = \"r\"\nwho.roles = [\"admin\"]\nactions = [\"copy-read\"]\n[[allow]]\nid = \"w\"\nwho.roles = [\"admin\"]\nactions = [\"copy-write\"]\napproval.count = 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	q := Request{Action: Copy, Role: Admin, Agent: "web-1"}
	if d := r.Decide(&q, anyTime); d.Effect != NeedApproval || d.Rule != "w" {
		t.Errorf("%v by %q", d.Effect, d.Rule)
	}
	q.Action = CopyRead
	if d := r.Decide(&q, anyTime); d.Effect != Allow {
		t.Errorf("reading: %v", d.Effect)
	}
}

func FuzzTarget(f *testing.F) {
	for _, s := range []string{"db.lan:5432", "[::1]:*", "/run/x.sock", "a:b:c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var v target
		if v.UnmarshalText([]byte(s)) == nil && string(v) != s {
			t.Errorf("%q is read as %q", s, v)
		}
	})
}

// A rule that names what no other rule opens is not said to be idle beside one for
// forwards to anywhere: who takes it out for that loses what it opens.
func TestRuleThatNamesWhatIsClosedIsNotRedundant(t *testing.T) {
	for list, idle := range map[string]bool{
		`"/run/app.sock"`: false, `"db.lan:5432", "/run/app.sock"`: false, `"192.0.2.41:9000"`: false,
		`"169.254.169.254:80"`: false, `"169.254.169.254:*"`: false, `"[fd00:ec2::254]:80"`: false, `"localhost:80"`: true, `"127.0.0.1:*"`: true,
	} {
		r := load(t, `
[[allow]]
id = "team"
who.roles = ["operator"]
actions = ["shell", "forward"]
[[allow]]
id = "app"
who.roles = ["operator"]
actions = ["forward-local", "forward-remote"]
targets = [`+list+`]
`)
		found := slices.ContainsFunc(r.Check(), func(f Finding) bool { return f.Rule == "app" && strings.Contains(f.Text, "already says") })
		if found != idle {
			t.Errorf("%s: said to be idle: %v", list, found)
		}
	}
	r := load(t, `
[[allow]]
id = "team"
who.roles = ["operator"]
actions = ["forward"]
[[allow]]
id = "db"
who.roles = ["operator"]
actions = ["forward-local"]
targets = ["192.0.2.41:9000"]
[[allow]]
id = "sock"
who.roles = ["operator"]
actions = ["forward-local"]
targets = ["/run/app.sock"]
[[block]]
id = "none"
actions = ["forward"]
where.agents = ["web-1"]
[[block]]
id = "sockets"
actions = ["forward"]
where.agents = ["web-1"]
targets = ["/run/app.sock"]
`)
	var got []string
	for _, f := range r.Check() {
		if strings.Contains(f.Text, "already says") {
			got = append(got, f.Rule)
		}
	}
	if !slices.Equal(got, []string{"db", "sockets"}) {
		t.Errorf("said to be idle: %q", got)
	}
}
