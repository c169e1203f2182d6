package endtoend

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/handshake"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/client"
)

// request is one line of requests ls --json.
type request struct {
	Request, State, Machine, Email string
	Argv, Approved, Denied         []string
}

func (p *person) requests() (list []request) {
	p.w.t.Helper()
	decode(p.w.t, p.run("requests", "ls", "--json").is(p.w.t, 0).out, &list)
	return list
}

// waiting is the hash of the request that a client talks about while it waits.
func waiting(t testing.TB, p *process) string {
	t.Helper()
	p.says("waits for an approval", 1)
	text := p.err.String()
	_, rest, _ := strings.Cut(text, "request ")
	hash, _, _ := strings.Cut(rest, " ")
	return hash
}

// decides is the answer to approve or deny for the request that a client named by its
// beginning, by its whole hash: what is signed unseen is named in full.
func (p *person) decides(verb, short string) answer {
	p.w.t.Helper()
	for _, r := range p.requests() {
		if strings.HasPrefix(r.Request, short) {
			return p.run("requests", verb, "--yes", r.Request)
		}
	}
	p.w.t.Fatalf("%s sees no request %s", p.name, short)
	return answer{}
}

func (p *person) sees(t testing.TB, hash, state string) {
	t.Helper()
	eventually(t, p.name+" sees the request as "+state, func() bool {
		for _, r := range p.requests() {
			if strings.HasPrefix(r.Request, hash) && r.State == state {
				return true
			}
		}
		return false
	})
}

func TestApprovals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.enter("bob", "approver")
	carol := w.enter("carol", "operator")
	prod := w.agent("prod", "prod")

	t.Run("E1 nothing runs before and exactly the argv after", func(t *testing.T) {
		marker := w.marker()
		argv := []string{"sh", "-c", `printf '<%s>' "$@" | tee "$0"`, marker, "", "a b", "ä", "\x1b[2J"}
		asks := w.ann.start(append([]string{"exec", "prod", "--"}, argv...)...)
		hash := waiting(t, asks)
		if exists(marker) {
			t.Fatal("the command ran without an approval")
		}
		shown := bob.run("requests", "show", hash).is(t, 0)
		if strings.ContainsRune(shown.out+shown.err, '\x1b') {
			t.Error("E10: the approver's terminal gets an escape sequence from the arguments")
		}
		carol.decides("approve", hash).refused(t, 253, "approver_not_allowed")
		bob.decides("approve", hash).is(t, 0)
		if a := asks.finish().is(t, 0); a.out != "<><a b><ä><\x1b[2J>" {
			t.Errorf("the approved command printed %q", a.out)
		}
		if !exists(marker) {
			t.Error("the approved command did not run")
		}
		w.ann.sees(t, hash, "used")
		bob.decides("approve", hash).refused(t, 253, "approval_used")
	})
	t.Run("E4 approved unseen is only what was named in full", func(t *testing.T) {
		marker := w.marker()
		asks := w.ann.start("exec", "prod", "--", "touch", marker)
		hash := waiting(t, asks)
		for _, verb := range []string{"approve", "deny"} {
			if a := bob.run("requests", verb, "--yes", hash).hints(t, "tucdesk requests show "+hash); a.code != 2 {
				t.Errorf("%s --yes with the beginning of a hash exits %d and says %q", verb, a.code, a.err)
			}
		}
		bob.run("requests", "approve", hash).hints(t, "without a terminal: tucdesk requests approve --yes "+hash)
		w.ann.sees(t, hash, "pending")
		if exists(marker) {
			t.Error("the command ran")
		}
		_, line, found := strings.Cut(bob.run("requests", "show", hash).is(t, 0).out, "to approve tucdesk ")
		line, _, _ = strings.Cut(line, "\n")
		if !found || !strings.HasPrefix(line, "requests approve --yes "+hash) {
			t.Fatalf("show does not end with the line to type, but %q", line)
		}
		bob.run(strings.Fields(line)...).is(t, 0)
		asks.finish().is(t, 0)
	})
	t.Run("deny", func(t *testing.T) {
		marker := w.marker()
		asks := w.ann.start("exec", "prod", "--", "touch", marker)
		bob.decides("deny", waiting(t, asks)).is(t, 0)
		asks.finish().refused(t, 253, "approval_denied")
		if exists(marker) {
			t.Error("the denied command ran")
		}
	})
	t.Run("Ctrl-C withdraws", func(t *testing.T) {
		marker := w.marker()
		asks := w.ann.start("exec", "prod", "--", "touch", marker)
		hash := waiting(t, asks)
		if err := asks.cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if a := asks.finish().is(t, 130); !strings.HasSuffix(a.err, " is withdrawn\n") {
			t.Errorf("it says %q", a.err)
		}
		bob.sees(t, hash, "cancelled")
		bob.decides("approve", hash).refused(t, 253, "approval_cancelled")
		if exists(marker) {
			t.Error("the withdrawn command ran")
		}
	})
	t.Run("expiry", func(t *testing.T) { w.ann.expires(t, prod, bob) })
	t.Run("E18 a shell on a gated host", func(t *testing.T) {
		asks := w.ann.start("ssh", "prod", "echo from the shell")
		bob.decides("approve", waiting(t, asks)).is(t, 0)
		if a := asks.finish().is(t, 0); a.out != "from the shell\n" {
			t.Errorf("the approved shell printed %q", a.out)
		}
	})
	t.Run("E13 the approver is revoked before the command starts", func(t *testing.T) {
		marker := w.marker()
		asks := w.ann.start("exec", "prod", "--", "touch", marker)
		hash := waiting(t, asks)
		// Stopped, ann's client cannot go on with what bob approves.
		if err := asks.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		bob.decides("approve", hash).is(t, 0)
		w.ann.owner("operator", "revoke", "bob@acme.example").is(t, 0)
		if err := asks.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		asks.finish().refused(t, 253, "approver_not_allowed")
		if exists(marker) {
			t.Error("the command ran")
		}
	})
}

// A gate that came since this client last saw the policy costs it one request that is
// too short to be approved, at the first command, and none after that.
func TestGateThatIsNewToAClientIsLearntOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dave := w.enter("dave", "operator")
	w.agent("web", "web")
	dave.run("exec", "web", "--", "true").is(t, 0)
	file := w.path("gated.toml")
	write(t, file, strings.Replace(rules, `where.tags_any = ["prod"]`, `where.tags_any = ["prod", "web"]`, 1))
	w.ann.owner("policy", "publish", file).is(t, 0)
	version := w.ann.trust().Version()
	if a := w.ann.owner("policy", "publish", file).is(t, 0); !strings.Contains(a.err, "nothing to change") || w.ann.trust().Version() != version {
		t.Errorf("the same rules again: roster version %d after %d, said %q", w.ann.trust().Version(), version, a.err)
	}
	for made := 2; made <= 3; made++ {
		asks := dave.start("exec", "web", "--", "true")
		w.ann.decides("approve", waiting(t, asks)).is(t, 0)
		asks.finish().is(t, 0)
		if list := w.ann.requests(); len(list) != made {
			t.Errorf("after %d gated commands there are %d requests: %+v", made-1, len(list), list)
		}
	}
}

// expires asks with a life of two seconds, which the client itself does not do,
// and nobody answers. On a machine so busy that they are over before the server has
// looked at the request, it asks again for more.
func (p *person) expires(t *testing.T, m *machine, approver *person) {
	t.Helper()
	member, k, st := p.member(), p.key(), p.trust()
	api := must(client.New(member.config()))
	defer api.Close()
	cred, _, err := api.Login(t.Context(), k, member.Team)
	if err != nil {
		t.Fatal(err)
	}
	marker := p.w.marker()
	var open wire.SessionOpen
	for life := wire.Millis(2000); ; life *= 4 {
		shake := must(handshake.NewOperator(handshake.OperatorConfig{Identity: k, Session: wire.NewSessionID(), RosterHash: st.Hash()}))
		at := now()
		req := wire.Request{ID: wire.NewNonce(), IssuedAt: at, ExpiresAt: at + life, Team: member.Team, Session: wire.NewSessionID(), Operator: k.ID(),
			Agent: m.key().ID(), RosterVersion: st.Version(), RosterHash: st.Hash(), PolicyHash: st.PolicyHash(), Suites: []uint16{2, 1}, Protocols: []uint16{wire.SessionProtocol},
			Eph: shake.EphHash(), Action: wire.Exec, Params: wire.Params{Argv: []wire.Bytes{wire.Bytes("touch"), wire.Bytes(marker)}, Env: []wire.EnvVar{}}}
		signed := must(statement.Sign(k, req))
		open = wire.SessionOpen{Request: signed, Open: must(shake.Open(signed.Hash()))}
		reply, err := api.OpenSession(t.Context(), cred, open)
		if err == nil && reply.Pending != nil {
			break
		}
		if refusal.Of(err) != refusal.Expired || now() < req.ExpiresAt || life > 60_000 {
			t.Fatalf("asking: %v", err)
		}
	}
	signed := open.Request
	eventually(t, "the request expires", func() bool {
		info, err := api.Request(t.Context(), cred, signed.Hash(), 10*time.Second)
		if err != nil || info.State != wire.RequestPending && info.State != wire.RequestExpired {
			t.Fatalf("after its time the request is %q, %v", info.State, err)
		}
		return info.State == wire.RequestExpired
	})
	if _, err := api.OpenSession(t.Context(), cred, open); refusal.Of(err) != refusal.Expired && refusal.Of(err) != refusal.ApprovalExpired {
		t.Errorf("asking again gives %v", err)
	}
	a := approver.run("requests", "approve", "--yes", signed.Hash().String())
	if a.code == 0 || !strings.Contains(a.err, "expired") {
		t.Errorf("approving too late exits %d and says %q", a.code, a.err)
	}
	if exists(marker) {
		t.Error("the command ran")
	}
}

// TestServerIsKilled: what was answered is on the disk, and agents and waiting
// clients find the server again by themselves.
func TestServerIsKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.enter("bob", "approver")
	web, prod := w.agent("web", "web"), w.agent("prod", "prod")
	asks := w.ann.start("exec", "prod", "--", "true")
	hash := waiting(t, asks)
	token := w.token("web")

	// A session runs on while there is no server: only the relay, here in the same
	// process, takes it down.
	w.server.kill()
	w.ann.run("exec", "web", "--", "true").refused(t, 255, "unreachable").hints(t, "is the server running")
	w.startServer()
	for _, m := range []*machine{web, prod} {
		m.proc.says("msg=connected", 2)
		m.online()
	}
	w.ann.run("exec", "web", "--", "echo", "after").is(t, 0)
	bob.sees(t, hash, "pending")
	bob.decides("deny", hash).is(t, 0)
	asks.finish().refused(t, 253, "approval_denied") // it waited through the restart
	late := &machine{w: w, name: "late", dir: w.path("machines", "late")}
	late.joinWith(token).is(t, 0)
	(&machine{w: w, name: "later", dir: w.path("machines", "later")}).joinWith(token).refused(t, 1, "token_used")
	w.server.kill() // the use of the token is on the disk too
	w.startServer()
	(&machine{w: w, name: "later", dir: w.path("machines", "later")}).joinWith(token).refused(t, 1, "token_used")
	bob.sees(t, hash, "denied")
	if w.server.out.String() != "" {
		t.Error("a server with a team prints another set-up string")
	}
	write(t, w.path("eve-passphrase"), "of her own\n")
	w.ann.run("team", "init", "--email", "eve@evil.example", "--state", w.path("eve"), "--passphrase-file", w.path("eve-passphrase"), w.setup).
		refused(t, 1, "not_found") // G12: the code is used, for ever
}

// TestH2AgentIsKilled: nobody answers for a session any more, so its programs end.
func TestH2AgentIsKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web := w.agent("web", "web")
	file := w.path("pids")
	running := w.ann.start("exec", "-t", "web", "--", "sh", "-c", "sleep 300 & echo $! $$ > "+file+".tmp; mv "+file+".tmp "+file+"; trap '' HUP; sleep 301")
	eventually(t, "the program runs", func() bool { return exists(file) })
	pids := strings.Fields(string(must(os.ReadFile(file))))
	for _, pid := range pids {
		if !exists("/proc/" + pid) {
			t.Fatalf("process %s does not run", pid)
		}
	}
	web.proc.kill()
	for _, pid := range pids {
		eventually(t, "process "+pid+" of the session is gone", func() bool { return ended(pid) })
	}
	if code := running.status(); code != 255 {
		t.Errorf("the client exits %d, want 255", code)
	}
	web.start()
	web.online()
	w.ann.run("exec", "web", "--", "true").is(t, 0)
}

// ended reports a process that does not exist or waits for its parent only.
func ended(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return true
	}
	state := strings.TrimSpace(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	return strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X")
}
