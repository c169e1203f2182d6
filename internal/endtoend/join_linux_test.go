package endtoend

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/spool"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/client"
)

func TestJoining(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	t.Run("the server has the name that it was given", w.serverHasItsName)
	t.Run("a token is good for one machine", w.tokenIsUsedOnce)
	t.Run("a join string is one checked string", w.joinStringIsChecked)
	t.Run("a script reads where the agent is", w.joinAnswersAsJSON)
	t.Run("B17 a key file that others can read", w.openKeyFile)
	t.Run("K5 an agent cannot speak for another", w.agentSpeaksForAnother)
	t.Run("K6 two machines with one identity", w.twoWithOneIdentity)
}

// serverHasItsName: the name in server.toml is that in the roster and in the log's
// origin (protocol 5.1).
func (w *world) serverHasItsName(t *testing.T) {
	const name = "hub.example" // see config
	if got := w.ann.trust().Roster().Servers[0].Name; got != name {
		t.Errorf("the roster calls the server %q", got)
	}
	file := w.path("named.log")
	w.ann.run("audit", "export", "--out", file).is(t, 0)
	if !strings.Contains(string(must(os.ReadFile(file))), name+"/audit/"+w.ann.member().Team.String()) {
		t.Error("the export's origin does not begin with the server's name")
	}
}

func (w *world) joinAnswersAsJSON(t *testing.T) {
	dir := w.path("scripted")
	cmd := exec.Command(program(t, "tucdesk-agent"), "join", "--json", "--state", dir, "--name", "scripted", "-")
	cmd.Stdin, cmd.Env = strings.NewReader(w.token("web")), cleanEnv()
	a := launch(t, cmd).finish().is(t, 0)
	if want := "{\n  \"schemaVersion\": 1,\n  \"state\": \"" + dir + "\"\n}\n"; a.out != want || a.err != "" {
		t.Errorf("printed %q, said %q; want %q", a.out, a.err, want)
	}
}

func (w *world) tokenIsUsedOnce(t *testing.T) {
	token := w.token("web")
	first, second := &machine{w: w, name: "one", dir: w.path("machines", "one")}, &machine{w: w, name: "two", dir: w.path("machines", "two")}
	first.joinWith(token).is(t, 0)
	second.joinWith(token).refused(t, 1, "token_used").hints(t, "tucdesk token create")
	if exists(second.dir) {
		t.Errorf("a join that failed left %q behind", second.dir)
	}
	first.joinWith(w.token("web")).refused(t, 1, "already_joined")
	taken := &machine{w: w, name: "one", dir: w.path("machines", "three")}
	taken.joinWith(w.token("web")).refused(t, 1, "name_taken")
	w.ann.run("token", "create", "--tags", "no-such-tag").refused(t, 1, "wider_than_allowed")
}

func (w *world) openKeyFile(t *testing.T) {
	m := w.join("open", "web")
	for path, run := range map[string]func() answer{
		filepath.Join(m.dir, "identity"): func() answer {
			cmd := exec.Command(program(t, "tucdesk-agent"), "run", "--state", m.dir)
			cmd.Env = cleanEnv()
			return launch(t, cmd).finish()
		},
		w.ann.state("operator.key"): func() answer { return w.ann.run("ls") },
	} {
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		a := run().refused(t, 1, "bad_file_mode")
		if !strings.Contains(a.err, path) || !strings.Contains(a.err, "chmod 600") {
			t.Errorf("the error names neither the file nor the fix: %s", a.err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.ann.run("ls").is(t, 0)
}

func TestSecondOperatorComesInByShortCode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.agent("web", "web")
	bob := w.enter("bob", "operator")
	if a := bob.run("exec", "web", "--", "echo", "by bob").is(t, 0); a.out != "by bob\n" {
		t.Errorf("bob's command prints %q", a.out)
	}
	carol := w.person("carol")
	var team struct{ TeamString string }
	decode(t, w.ann.run("team", "show", "--json").is(t, 0).out, &team)
	carol.run("login", team.TeamString).refused(t, 250, "your key is new here")
	mallory := must(key.Generate[key.Operator]())
	w.ann.owner("operator", "add", "carol@acme.example", mallory.Public().String(), "--code", carol.key().ID().ShortCode()).
		refused(t, 1, "not the key of the person you spoke to")
	bob.run("operator", "revoke", "ann@acme.example").refused(t, 1, "wrong_role")

	// G6 and C12: from the next roster on bob is nobody, whatever his JWT says.
	running := bob.start("exec", "web", "--", "sh", "-c", "echo up; exec sleep 60")
	eventually(t, "bob's program runs", func() bool { return running.out.Count("up") == 1 })
	w.ann.owner("operator", "revoke", "bob@acme.example").is(t, 0)
	if code := running.status(); code != 255 {
		t.Errorf("the session of a revoked key ends with status %d, want 255", code)
	}
	bob.run("exec", "web", "--", "true").refused(t, 250, "key_revoked")
}

// K5: nothing in a frame says who speaks; the registration does, and it is signed
// for its connection. So claiming to be another machine means signing as it.
func (w *world) agentSpeaksForAnother(t *testing.T) {
	web, db := w.join("web", "web"), w.join("db", "web")
	member := w.ann.member()
	papers := func(m *machine) (p struct{ Token, Certificate statement.Signed }) {
		decode(t, string(must(os.ReadFile(filepath.Join(m.dir, "agent.json")))), &p)
		return p
	}
	hello := func(signer key.Private[key.Agent], as key.Public[key.Agent], of *machine) func(key.Hash) (wire.Register, error) {
		return func(channel key.Hash) (wire.Register, error) {
			p := papers(of)
			r := wire.Registration{ID: wire.NewNonce(), IssuedAt: now(), Team: member.Team, Agent: as, Certificate: p.Certificate.Hash(),
				Server: member.Access, Channel: channel, ClientVersion: "test"}
			signed, err := statement.Sign(signer, r)
			return wire.Register{Registration: signed, Token: p.Token, Certificate: p.Certificate, Platform: "linux/amd64", Hostname: "x", Roster: 1}, err
		}
	}
	for name, say := range map[string]func(key.Hash) (wire.Register, error){
		"own key, other's id":               hello(web.key(), db.key().Public(), db),
		"own key and id, other's papers":    hello(web.key(), web.key().Public(), db),
		"other's signature of this channel": hello(db.key(), web.key().Public(), web),
	} {
		ctl, _, err := client.DialControl(t.Context(), member.config(), say)
		if err == nil {
			ctl.Close()
			t.Errorf("%s: registered", name)
		} else if refusal.Of(err) == "" {
			t.Errorf("%s: refused without a name: %v", name, err)
		}
	}
	// Registered as itself it hands in an entry that the other signed.
	ctl, _, err := client.DialControl(t.Context(), member.config(), hello(web.key(), web.key().Public(), web))
	if err != nil {
		t.Fatal(err)
	}
	defer ctl.Close()
	spool := must(spool.Open(db.dir, db.key(), member.Team))
	defer spool.Close()
	stolen := must(spool.Append(entry.Entry{Type: entry.AgentStart, Time: now()}))
	body := must(encode(wire.AuditEntries{Entries: []statement.Signed{stolen}}))
	if err := ctl.Send(t.Context(), wire.Frame{Type: wire.FrameAudit, Body: body}); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		var f wire.Frame
		if f, err = ctl.Receive(t.Context()); err == nil && f.Type == wire.FrameAuditAck {
			t.Fatal("the server took another machine's entry")
		}
	}
	if code := refusal.Of(err); code == "" || code == refusal.Unreachable {
		t.Errorf("the channel ended with %v, want a named refusal", err)
	}
}

// membership is a person's team.json.
type membership struct {
	URL         string
	Pin         key.Hash
	Access      key.ID
	Team        wire.TeamID
	Fingerprint key.Hash
}

func (p *person) member() (m membership) {
	decode(p.w.t, string(must(os.ReadFile(p.state("team.json")))), &m)
	return m
}

func (m membership) config() client.Config {
	return client.Config{URL: m.URL, Pin: m.Pin, Access: m.Access}
}

// B15 is checked by the store; here a disk that was cloned meets K6.
func (w *world) twoWithOneIdentity(t *testing.T) {
	first := w.agent("first", "web")
	twin := &machine{w: w, name: "first", dir: w.path("machines", "twin")}
	if err := copyState(first.dir, twin.dir); err != nil {
		t.Fatal(err)
	}
	twin.start()
	first.proc.says("key_in_use", 1)
}

func (w *world) joinStringIsChecked(t *testing.T) {
	token := w.token("web")
	m := &machine{w: w, name: "whole", dir: w.path("machines", "whole")}
	for name, text := range map[string]string{
		"cut off":        token[:len(token)-1],
		"one character":  token[:40] + swapped(token[40]) + token[41:],
		"other prefix":   strings.Replace(token, "tucdesk-join:", "tucdesk-setup:", 1),
		"other's server": otherServer(t, token),
	} {
		a := m.joinWith(text)
		if a.code == 0 || !strings.Contains(a.err, "error: ") || exists(m.dir) {
			t.Errorf("%s: exit %d, %s", name, a.code, a.err)
		}
	}
	m.joinWith(token).is(t, 0)
}

func swapped(c byte) string {
	if c == 'A' {
		return "B"
	}
	return "A"
}

// otherServer signs the token anew, for a server of the attacker's, with the
// token's own key: the only one in the string.
func otherServer(t *testing.T, text string) string {
	j := must(roster.ParseJoin(text))
	tok := j.Token
	tok.Server.Pin[0] ^= 1
	signed := must(statement.Sign(j.Key, tok))
	return must(roster.JoinString(j.RootSigned, signed, j.Key))
}
