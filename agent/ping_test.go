//go:build linux

package agent

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/agent/process"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

func pingRequest(r *wire.Request) { r.Action, r.Params = wire.Ping, wire.Params{} }

func TestPingOpensASessionInWhichNothingCanBeOpened(t *testing.T) {
	t.Parallel()
	k, a := liveTeam(t, "gated") // where everything else needs an approval
	conn := k.askFor(a, "ann", pingRequest).dial()
	if got := conn.Ready().MaxResume; got <= 0 || got > 10*60*1e9 {
		t.Errorf("a ping is kept for %v without a network", got)
	}
	for range 2 { // and again: one refusal does not open the second
		ch := must(conn.OpenSession(within(t)))
		if err := ch.Shell(within(t)); refusal.Of(err) != refusal.BadArgument {
			t.Errorf("a shell in a ping: %v", err)
		}
		_ = ch.Close()
	}
	ch := must(conn.OpenSession(within(t)))
	if err := ch.Exec(within(t), [][]byte{[]byte("true")}); refusal.Of(err) != refusal.BadArgument {
		t.Errorf("a program in a ping: %v", err)
	}
	_ = conn.Close()
	until(t, "the session to end", func() bool { return a.sessions.count() == 0 })
	var got []string
	for _, signed := range must(a.spool.Pending(0, wire.MaxAuditBatch)) {
		e, _, err := statement.Open[entry.Entry](signed, a.cert.FindAgent)
		if err != nil || e.Command == nil || e.Command.Action != wire.Ping {
			t.Fatalf("%+v, %v", e, err)
		}
		got = append(got, string(e.Type)+string(e.Refusal))
	}
	if strings.Join(got, " ") != "session.accept session.end" {
		t.Errorf("the chain tells %q", got)
	}
}

// TestH8PingsAreNobodyAndTakeNoPlaceOfASession: a ping needs no approval, so what an
// operator's bytes could make of its process must be worth nothing.
func TestH8PingsAreNobodyAndTakeNoPlaceOfASession(t *testing.T) {
	t.Parallel()
	k, a := liveTeam(t)
	a.sessions = newTable(1)
	conn := k.askFor(a, "ann", pingRequest).dial()
	if got := conn.Ready(); got.MaxDuration != pingLimit || got.MaxResume != pingLimit {
		t.Errorf("a ping may last %v, and %v without a network", got.MaxDuration, got.MaxResume)
	}
	nobody := must(process.Nobody())
	status := must(os.ReadFile(fmt.Sprintf("/proc/%d/status", a.sessions.all()[0].cmd.Process.Pid)))
	words := strings.Join(strings.Fields(string(status)), " ")
	uid, gid := fmt.Sprintf("Uid: %[1]d %[1]d %[1]d %[1]d ", nobody.UID), fmt.Sprintf("Gid: %[1]d %[1]d %[1]d %[1]d ", nobody.GID)
	if !strings.Contains(words, uid) || !strings.Contains(words, gid) || !strings.Contains(words, "NoNewPrivs: 1") || process.Missing() == nil && !strings.Contains(words, "Seccomp: 2") {
		t.Errorf("want %q, %q, no new privileges and a filter of calls; it is\n%s", uid, gid, status)
	}
	if os.Geteuid() == 0 && !strings.Contains(words, "Groups: NStgid") {
		t.Errorf("it has groups:\n%s", status)
	}
	out, _, _, err := k.askFor(a, "ann", argv("echo", "there is room")).exec("")
	if err != nil || out != "there is room\n" {
		t.Errorf("%q, %v", out, err)
	}
	_ = conn.Close()
	until(t, "the sessions to end", func() bool { return a.sessions.count() == 0 })
	if p := a.sessions.pings; p.Taken() != 0 {
		t.Errorf("places are left: %+v", p)
	}
}

func TestPingIsDecidedByTheAgentToo(t *testing.T) {
	k := newTeam(t, openPolicy+"[[block]]\nid = \"eve\"\nwho.people = [\"eve\"]\n")
	a := k.agent()
	k.askFor(a, "ann", pingRequest).wantAccept()
	k.askFor(a, "eve", pingRequest).wantRefusal(refusal.PolicyDenied)
	k.askFor(a, "vic", pingRequest).wantRefusal(refusal.WrongRole)
	for name, edit := range map[string]func(*wire.Params){
		"argv": func(p *wire.Params) { p.Argv = []wire.Bytes{wire.Bytes("true")} },
		"user": func(p *wire.Params) { p.User = "nobody" },
		"cwd":  func(p *wire.Params) { p.Cwd = wire.Bytes("/") },
		"env":  func(p *wire.Params) { p.Env = []wire.EnvVar{{Name: "LANG", Value: wire.Bytes("C")}} },
		"tty":  func(p *wire.Params) { p.TTY = true },
	} {
		t.Log(name)
		k.askFor(a, "ann", func(r *wire.Request) { pingRequest(r); edit(&r.Params) }).wantRefusal(refusal.BadArgument)
	}
}
