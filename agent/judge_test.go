//go:build linux

package agent

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/agent/gossip"
	"github.com/tucdesk/tucdesk/agent/judge"
	"github.com/tucdesk/tucdesk/agent/membership"
	"github.com/tucdesk/tucdesk/crypto/handshake"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
)

func TestHonestRequestIsAccepted(t *testing.T) {
	k := newTeam(t, openPolicy)
	k.startRelay() // or the session is over as soon as its process finds none
	a := k.agent()
	m3, _ := k.askFor(a, "ann", nil).wantAccept()
	if len(m3) == 0 || a.sessions.count() != 1 {
		t.Errorf("%d sessions", a.sessions.count())
	}
}

func TestB2EphemeralKeyIsUsedOnce(t *testing.T) {
	k := newTeam(t, openPolicy)
	a := k.agent()
	first := k.askFor(a, "ann", nil)
	first.wantAccept()
	// Another request, rightly signed, with the ephemeral key of the first.
	second := *first
	second.request.ID, second.request.Session = wire.NewNonce(), wire.NewSessionID()
	second.signed = must(statement.Sign(second.by, second.request))
	m1 := append([]byte(nil), first.offer.Open...)
	hash := second.signed.Hash()
	copy(m1[8:], second.request.Session[:])
	copy(m1[24:], hash[:])
	second.offer = wire.OpenSession{Request: second.signed, Open: m1}
	second.signGrant(nil)
	second.wantRefusal(refusal.Replay)
}

func TestB3ReplacedEphemeralKeyIsNoticed(t *testing.T) {
	k := newTeam(t, openPolicy)
	a := k.agent()
	q := k.askFor(a, "ann", nil)
	mallory := must(handshake.NewOperator(handshake.OperatorConfig{
		Identity: q.by, Session: q.request.Session, RosterHash: q.request.RosterHash, Suites: []handshake.Suite{handshake.X25519},
	}))
	q.offer.Open = must(mallory.Open(q.signed.Hash()))
	q.wantRefusal(refusal.EphMismatch)
}

func TestB10ReplayedOpen(t *testing.T) {
	k := newTeam(t, openPolicy)
	a, other := k.agent(), k.agent()
	q := k.askFor(a, "ann", nil)
	q.wantAccept()
	q.wantRefusal(refusal.Replay)
	q.signGrant(nil) // with a fresh grant it is the same request
	q.wantRefusal(refusal.Replay)
	q.agent = other
	q.signGrant(nil)
	q.wantRefusal(refusal.WrongAgent)
}

func TestOpenIsHeldAgainstTheRequest(t *testing.T) {
	t.Parallel()
	k := newTeam(t, openPolicy)
	a := k.agent()
	for at := range k.askFor(a, "ann", nil).offer.Open {
		q := k.askFor(a, "ann", nil)
		q.offer.Open[at] ^= 0x40
		if m2, r := q.send(); r == nil && at != 4 && at != 5 && at != 6 && at != 7 { // the receive index is the operator's to choose; the transcript covers it
			t.Errorf("byte %d changed and %d bytes of ACCEPT came", at, len(m2))
		}
	}
}

func TestRequestAndGrantAreChecked(t *testing.T) {
	k := newTeam(t, openPolicy)
	a := k.agent()
	other := newTeam(t, openPolicy)
	now := time.Now()
	for name, c := range map[string]struct {
		edit func(*wire.Request)
		want refusal.Code
	}{
		"another agent":    {func(r *wire.Request) { r.Agent = key.ID{9} }, refusal.WrongAgent},
		"another team":     {func(r *wire.Request) { r.Team = wire.NewTeamID() }, refusal.WrongTeam},
		"another operator": {func(r *wire.Request) { r.Operator = k.members["bob"].ID() }, refusal.UnknownKey},
		"expired": {func(r *wire.Request) {
			r.IssuedAt, r.ExpiresAt = wire.At(now.Add(-3*time.Minute)), wire.At(now.Add(-2*time.Minute))
		}, refusal.Expired},
		"in the future": {func(r *wire.Request) {
			r.IssuedAt, r.ExpiresAt = wire.At(now.Add(5*time.Minute)), wire.At(now.Add(6*time.Minute))
		}, refusal.NotYetValid},
		"lives too long":     {func(r *wire.Request) { r.ExpiresAt = wire.At(now.Add(time.Hour)) }, refusal.BadTime},
		"an older transport": {func(r *wire.Request) { r.Protocols = []uint16{1} }, refusal.NoCommonSuite},
		"a newer transport":  {func(r *wire.Request) { r.Protocols = []uint16{7} }, refusal.NoCommonSuite},
		"another suite":      {func(r *wire.Request) { r.Suites = []uint16{2, 1} }, refusal.NoCommonSuite},
		"unknown action":     {func(r *wire.Request) { r.Action = "format" }, refusal.BadArgument},
		"two command lines":  {func(r *wire.Request) { r.Action, r.Params.Argv = wire.Shell, []wire.Bytes{[]byte("a"), []byte("b")} }, refusal.BadArgument},
		"exec without argv":  {func(r *wire.Request) { r.Params.Argv = nil }, refusal.BadArgument},
		"relative folder":    {func(r *wire.Request) { r.Params.Cwd = wire.Bytes("tmp") }, refusal.BadArgument},
		"no such program":    {func(r *wire.Request) { r.Params.Argv = []wire.Bytes{wire.Bytes("no-such-program")} }, refusal.CommandNotFound},
		"E4 zero byte":       {func(r *wire.Request) { r.Params.Argv = append(r.Params.Argv, wire.Bytes("a\x00b")) }, refusal.BadArgument},
		"H7 numeric user":    {func(r *wire.Request) { r.Params.User = "1000" }, refusal.UserNotAllowed},
		"H7 unknown user":    {func(r *wire.Request) { r.Params.User = "no-such-user" }, refusal.UserNotAllowed},
		"H7 not in a rule":   {func(r *wire.Request) { r.Params.User = "daemon" }, refusal.UserNotAllowed},
	} {
		t.Run(name, func(t *testing.T) {
			q := k.askFor(a, "ann", c.edit)
			q.team = &team{t: t, state: k.state, secret: k.secret, grant: k.grant}
			q.wantRefusal(c.want)
		})
	}
	q := k.askFor(a, "vic", nil)
	q.wantRefusal(refusal.WrongRole)
	q = k.askFor(a, "ann", nil)
	q.by = other.members["ann"] // same e-mail, another team
	q.offer.Request = must(statement.Sign(q.by, q.request))
	q.wantRefusal(refusal.UnknownKey)
	q = k.askFor(a, "ann", nil)
	q.signGrant(func(g *wire.Grant) { g.RequestHash = key.Hash{1} })
	q.wantRefusal(refusal.GrantMismatch)
	q = k.askFor(a, "ann", nil)
	q.signGrant(func(g *wire.Grant) { g.ExpiresAt = wire.At(time.Now().Add(-time.Second)) })
	q.wantRefusal(refusal.BadTime)
	q = k.askFor(a, "ann", nil)
	q.offer.Grant = must(statement.Sign(other.grant, q.grant))
	q.wantRefusal(refusal.UnknownKey)
}

// TestAnOlderProgramIsNamed: packets of another transport are but silence to either
// end, so a session of two that differ must not begin, and say at once who is behind.
func TestAnOlderProgramIsNamed(t *testing.T) {
	k := newTeam(t, openPolicy)
	a := k.agent()
	for _, c := range []struct {
		offered []uint16
		update  string
	}{
		{[]uint16{1}, "update the operator's program"},
		{nil, "update the operator's program"},
		{[]uint16{wire.SessionProtocol + 1, wire.SessionProtocol + 2}, "update tucdesk-agent"},
	} {
		_, r := k.askFor(a, "ann", func(r *wire.Request) { r.Protocols = c.offered }).send()
		if r == nil || r.Code != refusal.NoCommonSuite || !strings.Contains(r.Detail, c.update) {
			t.Errorf("offered %v: %+v", c.offered, r)
		}
	}
	k.askFor(a, "ann", func(r *wire.Request) { r.Protocols = []uint16{wire.SessionProtocol + 1, wire.SessionProtocol} }).wantAccept()
}

func TestFlippedStatementsAreRefused(t *testing.T) {
	t.Parallel()
	k := newTeam(t, openPolicy)
	a := k.agent()
	q := k.askFor(a, "ann", nil)
	for _, field := range []*statement.Signed{&q.offer.Request, &q.offer.Grant} {
		good := *field
		for at := 0; at < len(good); at += 7 {
			bad := append(statement.Signed(nil), good...)
			bad[at] ^= 1
			*field = bad
			if _, _, err := a.judge.Offer(t.Context(), q.offer, time.Now()); err == nil {
				t.Fatalf("byte %d changed and nobody noticed", at)
			}
		}
		*field = good
		a.openJudge() // the attempts above used up the operator's rate
	}
}

func TestE2E18ApprovalsAreDemanded(t *testing.T) {
	k := newTeam(t, openPolicy)
	a := k.agent("gated")
	shell := func(r *wire.Request) { r.Action, r.Params.Argv = wire.Shell, nil }

	k.askFor(a, "ann", shell).wantRefusal(refusal.ApprovalRequired)
	k.askFor(a, "ann", func(r *wire.Request) { r.Params.Argv = []wire.Bytes{wire.Bytes("id")} }).wantRefusal(refusal.ApprovalRequired)
	k.askFor(a, "ann", nil).wantAccept() // spelled out by a rule

	q := k.askFor(a, "ann", shell)
	q.approve("ann2", approval.Approve)
	q.wantRefusal(refusal.SelfApproval)
	q = k.askFor(a, "ann", shell)
	q.approve("eve", approval.Approve)
	q.wantRefusal(refusal.ApproverNotAllowed)
	q = k.askFor(a, "ann", shell)
	q.approve("bob", approval.Approve)
	q.approve("bob", approval.Deny)
	q.wantRefusal(refusal.ApprovalDenied)
	q = k.askFor(a, "ann", shell)
	q.approve("bob", approval.Approve)
	q.wantAccept()
}

func TestRequestMayComeAgainWithItsApproval(t *testing.T) {
	k := newTeam(t, openPolicy)
	a := k.agent("gated")
	q := k.askFor(a, "ann", func(r *wire.Request) { r.Params.Argv = []wire.Bytes{wire.Bytes("id")} })
	q.wantRefusal(refusal.ApprovalRequired)
	q.approve("bob", approval.Approve)
	q.wantAccept()
	q.wantRefusal(refusal.Replay)
}

// The server does not know this host's files: it sees a command that a rule lists,
// the agent sees that another file would run. What the agent needs then is what
// the server can ask people for.
func TestAgentSaysWhichApprovalItNeeds(t *testing.T) {
	k := newTeam(t, `version = 1
mode = "enforce"
[gate]
approval = { count = 1, roles = ["approver", "admin"] }
[[allow]]
id = "team"
who.roles = ["operator"]
actions = ["exec"]
users = ["@agent"]
[[allow]]
id = "listed"
who.roles = ["operator"]
actions = ["exec"]
commands = [["/usr/bin/true"]]
`)
	a := k.agent()
	link := filepath.Join(t.TempDir(), "true")
	if err := os.Symlink(must(exec.LookPath("id")), link); err != nil {
		t.Fatal(err)
	}
	q := k.askFor(a, "ann", argv(link))
	_, r := q.send()
	if r == nil || r.Code != refusal.ApprovalRequired || r.Need == nil {
		t.Fatalf("%+v", r)
	}
	if r.Need.Count != 1 || !slices.Equal(r.Need.Roles, []string{"approver", "admin"}) || r.Need.Rule != policy.Gate {
		t.Errorf("%+v", r.Need)
	}
	k.askFor(a, "ann", argv("true")).wantAccept()
	if _, r := k.askFor(a, "vic", nil).send(); r == nil || r.Need != nil {
		t.Errorf("a refusal that no approval lifts: %+v", r)
	}
	q.approve("bob", approval.Approve)
	q.wantAccept()
}

func TestE4E5ApprovalOfOtherContent(t *testing.T) {
	k := newTeam(t, openPolicy)
	a := k.agent("gated")
	argv := func(args ...string) func(*wire.Request) {
		return func(r *wire.Request) {
			r.Params.Argv = nil
			for _, s := range args {
				r.Params.Argv = append(r.Params.Argv, wire.Bytes(s))
			}
		}
	}
	for name, edit := range map[string]func(*wire.Request){
		"joined": argv("echo", "a b"), "empty added": argv("echo", "a", "b", ""), "other": argv("echo", "a", "c"),
		"shell": func(r *wire.Request) { r.Action, r.Params.Argv = wire.Shell, nil },
	} {
		approved := k.askFor(a, "ann", argv("echo", "a", "b"))
		approved.approve("bob", approval.Approve)
		q := k.askFor(a, "ann", edit)
		q.offer.Approvals = approved.offer.Approvals
		_, r := q.send()
		if r == nil || r.Code != refusal.ApprovalMismatch {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestE8EnvironmentIsRefusedNotDropped(t *testing.T) {
	k := newTeam(t, openPolicy)
	a := k.agent()
	for _, name := range []string{"LD_PRELOAD", "LD_AUDIT", "BASH_ENV", "ENV", "IFS", "PATH", "PYTHONPATH", "PERL5OPT", "NODE_OPTIONS", "GIT_SSH_COMMAND", "HOME", "a b", ""} {
		k.askFor(a, "ann", func(r *wire.Request) {
			r.Params.Env = []wire.EnvVar{{Name: name, Value: wire.Bytes("x")}}
		}).wantRefusal(refusal.EnvNotAllowed)
	}
	k.askFor(a, "ann", func(r *wire.Request) {
		r.Params.Env = []wire.EnvVar{{Name: "LANG", Value: wire.Bytes("de_DE.UTF-8")}}
	}).wantAccept()
}

func TestE14ServerCannotWaiveAnApproval(t *testing.T) {
	k := newTeam(t, openPolicy)
	a := k.agent("gated")
	q := k.askFor(a, "ann", func(r *wire.Request) { r.Action, r.Params.Argv = wire.Shell, nil })
	q.signGrant(func(g *wire.Grant) { g.Rule = "no approval needed" })
	q.wantRefusal(refusal.ApprovalRequired)
	// An approval that the server made up, signed with a key of its own.
	forged := must(approval.Make(must(key.Generate[key.Operator]()), q.request, q.signed.Hash(), approval.Approve, time.Now()))
	q.offer.Approvals = []statement.Signed{forged}
	q.wantRefusal(refusal.UnknownKey)
}

func TestServerThatShowedTwoLogsGetsNoSession(t *testing.T) {
	k := newTeam(t, openPolicy)
	dir := k.join()
	server := must(k.state.Server(k.access.ID()))
	origin := checkpoint.Origin(server.Name, k.state.Team())
	evidence := `{"format":"tucdesk-witness-v1","origin":"` + origin + `","checkpoint":"","evidence":["another log"]}` + "\n"
	if err := os.WriteFile(gossip.Path(dir, origin), []byte(evidence), 0o600); err != nil {
		t.Fatal(err)
	}
	a := k.open(dir)
	t.Cleanup(func() { stop(a) })
	k.askFor(a, "ann", nil).wantRefusal(refusal.AuditFork)
}

func TestF7F10OwnPolicyAndTagsDecide(t *testing.T) {
	k := newTeam(t, openPolicy)
	// The agent's tags are its certificate's; what the server says is no matter.
	gated := k.agent("gated")
	q := k.askFor(gated, "ann", func(r *wire.Request) { r.Action, r.Params.Argv = wire.Shell, nil })
	q.wantRefusal(refusal.ApprovalRequired)
	// The rendezvous still has, and claims, the older and milder policy.
	a := k.agent()
	old := *k
	a.applyNews(k.setPolicy("version = 1\nmode = \"lockdown\"\n"))
	q = old.askFor(a, "ann", nil)
	q.wantRefusal(refusal.PolicyDenied)
}

func TestH8TooManySessions(t *testing.T) {
	k := newTeam(t, openPolicy)
	a := k.agent()
	a.sessions = newTable(maxPerOperator + 1)
	take := func(who string, action wire.Action) error {
		return a.sessions.reserve(&wire.Request{Session: wire.NewSessionID(), Operator: k.members[who].ID(), Action: action})
	}
	for range maxPerOperator {
		if err := take("ann", wire.Exec); err != nil {
			t.Fatal(err)
		}
	}
	k.askFor(a, "ann", nil).wantRefusal(refusal.TooMany) // one operator does not get them all
	if err := take("eve", wire.Shell); err != nil {
		t.Fatal(err)
	}
	k.askFor(a, "bob", nil).wantRefusal(refusal.TooMany)
	for range maxPingsPerOperator { // pings have places of their own
		if err := take("ann", wire.Ping); err != nil {
			t.Fatal(err)
		}
	}
	k.askFor(a, "ann", pingRequest).wantRefusal(refusal.TooMany)
	k.askFor(a, "eve", pingRequest).wantAccept()
	b := k.agent()
	flood, now := k.askFor(b, "ann", func(r *wire.Request) { r.Agent = key.ID{1} }), time.Now() // at one moment: a busy machine makes no flood
	var err error
	for i := 0; i < 2*judge.OpenBurst && refusal.Of(err) != refusal.RateLimited; i++ {
		_, _, err = b.judge.Offer(t.Context(), flood.offer, now)
	}
	if refusal.Of(err) != refusal.RateLimited {
		t.Errorf("a flood ended with %v", err)
	}
	k.askFor(b, "bob", nil).wantAccept() // somebody else is not slowed down
}

func TestB17StateOpenToOthers(t *testing.T) {
	k := newTeam(t, openPolicy)
	dir := k.join()
	for name, spoil := range map[string]func() func(){
		"readable key": func() func() { return chmod(t, filepath.Join(dir, "identity"), 0o644) },
		"open folder":  func() func() { return chmod(t, dir, 0o777) },
		"open ledger":  func() func() { return chmod(t, filepath.Join(dir, membership.LedgerFile), 0o640) },
		"linked key": func() func() {
			path := filepath.Join(dir, "identity")
			if err := os.Rename(path, path+".real"); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(path+".real", path); err != nil {
				t.Fatal(err)
			}
			return func() { _ = os.Rename(path+".real", path) }
		},
	} {
		mend := spoil()
		_, err := Open(dir, Config{})
		if refusal.Of(err) != refusal.BadFileMode {
			t.Errorf("%s: %v", name, err)
		}
		mend()
	}
	stop(k.open(dir))
}

func chmod(t *testing.T, path string, mode os.FileMode) (back func()) {
	t.Helper()
	info := must(os.Stat(path))
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return func() { _ = os.Chmod(path, info.Mode()) }
}

func TestTwoAgentsOnOneStateAreRefused(t *testing.T) {
	k := newTeam(t, openPolicy)
	dir := k.join()
	a := k.open(dir)
	if _, err := Open(dir, Config{}); err == nil {
		t.Error("a second agent opened the same folder")
	}
	stop(a)
	stop(k.open(dir))
}
