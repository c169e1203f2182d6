//go:build linux

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/agent/membership"
	"github.com/tucdesk/tucdesk/agent/trust"
	"github.com/tucdesk/tucdesk/agent/utmp"
	"github.com/tucdesk/tucdesk/crypto/handshake"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/spool"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/sidebyside"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/relay"
	"github.com/tucdesk/tucdesk/relay/credential"
	"go.uber.org/goleak"
)

// patience bounds every wait of a test. It is spent only where something is wrong.
const patience = time.Minute

// TestMain makes the test binary serve as its own session process, and as the
// agent that a test kills.
func TestMain(m *testing.M) {
	if len(os.Args) >= 2 && os.Args[1] == SessionArg {
		syscall.Exit(SessionMain()) // without the second that the race detector waits at an end in order
	}
	if dir := os.Getenv(killedEnv); dir != "" {
		actAsAgent(dir)
		return
	}
	sidebyside.Tests(8)
	goleak.VerifyTestMain(m)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // the test's own set-up
	}
	return v
}

// team is a team with all its keys, and the server's.
type team struct {
	t       testing.TB
	owner   key.Private[key.Owner]
	access  key.Private[key.Access]
	grant   key.Private[key.Grant]
	audit   key.Private[key.Audit]
	state   *roster.State
	policy  []byte
	members map[string]key.Private[key.Operator]
	secret  credential.Secret
	relays  []wire.RelayEndpoint
	ends    wire.Millis // of the certificates of agents that join; 0 is never
}

// openPolicy lets operators do everything as the agent's own user or as nobody,
// but on hosts with the tag gated.
const openPolicy = `version = 1
mode = "enforce"
[gate]
where.tags_any = ["gated"]
approval.count = 1
[[allow]]
id = "team"
who.roles = ["operator", "approver", "admin"]
actions = ["shell", "exec"]
users = ["@agent", "nobody", "1000", "root"]
[[allow]]
id = "listed"
who.roles = ["operator", "approver", "admin"]
actions = ["exec"]
commands = [["/usr/bin/true"]]
`

// member is one roster entry of the team of a test.
type member struct {
	name, person string
	role         policy.Role
}

var members = []member{
	{"ann", "ann", policy.Operator},
	{"ann2", "ann", policy.Approver}, // a second key of the same person
	{"bob", "bob", policy.Approver},
	{"eve", "eve", policy.Operator},
	{"vic", "vic", policy.Viewer},
	{"adm", "adm", policy.Admin},
}

func newTeam(t testing.TB, policyText string) *team {
	t.Helper()
	k := emptyTeam(t, policyText)
	k.found(roster.Server{Name: "main", URL: "https://127.0.0.1:1", Keys: wire.ServerKeys{
		Access: k.access.Public(), Grant: k.grant.Public(), Audit: k.audit.Public(), TLS: key.Hash{1},
	}})
	return k
}

func emptyTeam(t testing.TB, policyText string) *team {
	t.Helper()
	return &team{
		t: t, owner: must(key.Generate[key.Owner]()), access: must(key.Generate[key.Access]()),
		grant: must(key.Generate[key.Grant]()), audit: must(key.Generate[key.Audit]()),
		policy: []byte(policyText), members: map[string]key.Private[key.Operator]{}, secret: credential.NewSecret(),
	}
}

// found makes root and first roster of the team.
func (k *team) found(server roster.Server) wire.RosterUpdate {
	root := roster.Root{Team: wire.NewTeamID(), Name: "team", Owners: []key.Public[key.Owner]{k.owner.Public()}, Threshold: 1}
	signed := must(roster.SignRoot(k.owner, root))
	v1 := must(roster.Sign(k.owner, roster.First(root, signed.Hash(), func(r *roster.Roster) {
		r.Renew(time.Now(), 24*time.Hour)
		r.PolicyHash = must(policy.Parse(k.policy)).Hash()
		r.Servers = []roster.Server{server}
		for _, m := range members {
			op := must(key.Generate[key.Operator]())
			k.members[m.name] = op
			r.Operators = append(r.Operators, roster.Operator{Key: op.Public(), Email: m.name + "@example.com", Person: m.person, Role: m.role})
		}
	})))
	k.state = must(roster.Found(signed, signed.Hash(), v1))
	return v1
}

// next makes the next version of the roster, which the team then has.
func (k *team) next(edit func(*roster.Roster)) wire.RosterUpdate {
	k.t.Helper()
	u := must(roster.Sign(k.owner, roster.Next(k.state, func(r *roster.Roster) {
		r.Renew(time.Now(), 24*time.Hour)
		edit(r)
	})))
	k.state = must(k.state.Apply(u, time.Now()))
	return u
}

// setPolicy makes a version with another policy.
func (k *team) setPolicy(text string) wire.RosterNews {
	k.policy = []byte(text)
	return wire.RosterNews{Updates: []wire.RosterUpdate{k.next(func(r *roster.Roster) {
		r.PolicyHash = must(policy.Parse(k.policy)).Hash()
	})}, Policy: k.policy}
}

// join makes the state folder of an agent, as Join does after the server said yes.
func (k *team) join(tags ...string) string {
	k.t.Helper()
	return k.joinIn(filepath.Join(k.t.TempDir(), "state"), tags...)
}

func (k *team) joinIn(dir string, tags ...string) string {
	k.t.Helper()
	if err := keyfile.CreateDir(dir); err != nil {
		k.t.Fatal(err)
	}
	if tags == nil {
		tags = []string{}
	}
	text, token, tk := k.token(time.Hour, 1, tags...)
	identity := must(keyfile.CreateKey[key.Agent](filepath.Join(dir, "identity")))
	cert := must(roster.SignAgent(tk, token, roster.AgentCert{
		Team: token.Team, Agent: identity.Public(), Name: "host", Tags: tags, TokenID: token.ID, IssuedAt: wire.At(time.Now()), NotAfter: k.ends,
	}))
	m := membership.Membership{Server: token.Server, Fingerprint: token.Fingerprint, Token: must(roster.ParseJoin(text)).TokenSigned, Certificate: cert}
	ledger := must(approval.CreateLedger(filepath.Join(dir, membership.LedgerFile)))
	if err := errors.Join(
		ledger.Close(), spool.Create(dir, identity, k.state.Team()),
		trust.Create(dir, &trust.Trust{Roster: k.state, Rules: must(policy.Parse(k.policy))}, k.policy),
		keyfile.WriteNew(filepath.Join(dir, "agent.json"), must(json.Marshal(m))),
	); err != nil {
		k.t.Fatal(err)
	}
	return dir
}

// token makes a join string.
func (k *team) token(life time.Duration, uses int, tags ...string) (text string, token roster.Token, tk key.Private[key.Token]) {
	k.t.Helper()
	if tags == nil {
		tags = []string{}
	}
	tk = must(key.Generate[key.Token]())
	now := time.Now()
	token = roster.Token{
		ID: wire.NewNonce(), Team: k.state.Team(), Fingerprint: k.state.Fingerprint(), Server: k.state.Roster().Servers[0].Address(),
		Tags: tags, IssuedAt: wire.At(now), ExpiresAt: wire.At(now.Add(life)), MaxUses: uses, Key: tk.Public(),
	}
	return must(roster.JoinString(k.state.Root(), must(roster.SignToken(k.owner, token)), tk)), token, tk
}

func (k *team) open(dir string) *Agent {
	k.t.Helper()
	a, err := Open(dir, Config{Logins: &utmp.Files{}})
	if err != nil {
		k.t.Fatal(err)
	}
	return a
}

// agent joins and opens an agent that is stopped when the test ends.
func (k *team) agent(tags ...string) *Agent {
	a := k.open(k.join(tags...))
	k.t.Cleanup(func() { stop(a) })
	return a
}

func stop(a *Agent) {
	a.sessions.close()
	a.shells.Close()
	a.running.Wait()
	a.Close()
}

// ask is one request in the making.
type ask struct {
	team     *team
	agent    *Agent
	by       key.Private[key.Operator]
	request  wire.Request
	signed   statement.Signed
	hs       *handshake.Operator
	grant    wire.Grant
	offer    wire.OpenSession
	operator wire.Relay // the operator's side of the relay credential
	answered []byte     // ACCEPT, when it came from elsewhere
}

// askFor signs a request. edit may change it before it is signed.
func (k *team) askFor(a *Agent, who string, edit func(*wire.Request)) *ask {
	k.t.Helper()
	q := &ask{team: k, agent: a, by: k.members[who]}
	now := time.Now()
	q.request = wire.Request{
		ID: wire.NewNonce(), IssuedAt: wire.At(now), ExpiresAt: wire.At(now.Add(time.Minute)), Team: k.state.Team(),
		Session: wire.NewSessionID(), Operator: q.by.ID(), Agent: a.ID(), RosterVersion: k.state.Version(),
		RosterHash: k.state.Hash(), PolicyHash: k.state.PolicyHash(), Suites: []uint16{1}, Protocols: []uint16{wire.SessionProtocol},
		Action: wire.Exec, Params: wire.Params{Argv: []wire.Bytes{wire.Bytes("true")}, Env: []wire.EnvVar{}},
	}
	if edit != nil {
		edit(&q.request)
	}
	q.hs = must(handshake.NewOperator(handshake.OperatorConfig{
		Identity: q.by, Session: q.request.Session, RosterHash: q.request.RosterHash, Suites: []handshake.Suite{handshake.X25519},
	}))
	if q.request.Eph.IsZero() {
		q.request.Eph = q.hs.EphHash()
	}
	q.signed = must(statement.Sign(q.by, q.request))
	q.offer = wire.OpenSession{Request: q.signed, Open: must(q.hs.Open(q.signed.Hash()))}
	q.signGrant(nil)
	return q
}

func (q *ask) signGrant(edit func(*wire.Grant)) {
	now := time.Now()
	operator, agent := credential.MintPair(q.team.secret, now, time.Hour)
	side := func(c credential.Credential) wire.Relay {
		return wire.Relay{Endpoints: q.team.relays, Username: c.Username, Password: c.Password, ExpiresAt: wire.At(c.ExpiresAt)}
	}
	q.operator = side(operator)
	q.grant = wire.Grant{
		ID: wire.NewNonce(), IssuedAt: wire.At(now), ExpiresAt: wire.At(now.Add(30 * time.Second)), Team: q.team.state.Team(),
		RequestHash: q.signed.Hash(), Agent: q.agent.ID(), Rule: "team", PolicyHash: q.team.state.PolicyHash(), Relay: side(agent),
	}
	if edit != nil {
		edit(&q.grant)
	}
	q.offer.Grant = must(statement.Sign(q.team.grant, q.grant))
}

// approve adds the decision of a member.
func (q *ask) approve(who string, d approval.Decision) {
	q.offer.Approvals = append(q.offer.Approvals, must(approval.Make(q.team.members[who], q.request, q.signed.Hash(), d, time.Now())))
}

// send gives the OPEN to the agent the way the control channel does.
func (q *ask) send() (m2 []byte, refused *wire.Refuse) {
	q.team.t.Helper()
	body := must(json.Marshal(q.offer))
	typ, answer := q.agent.answer(q.team.t.Context(), wire.Frame{Type: wire.FrameOpen, ID: 1, Body: body})
	if typ == wire.FrameAccept {
		return answer.(wire.AcceptSession).Accept, nil
	}
	r := answer.(wire.Refuse)
	return nil, &r
}

// wantRefusal sends and expects a refusal by that code.
func (q *ask) wantRefusal(code refusal.Code) {
	q.team.t.Helper()
	_, r := q.send()
	if r == nil {
		q.team.t.Fatalf("accepted, want %s", code)
	}
	if r.Code != code {
		q.team.t.Fatalf("refused with %s (%s), want %s", r.Code, r.Detail, code)
	}
}

// wantAccept sends and returns CONFIRM and the keys.
func (q *ask) wantAccept() (m3 []byte, keys *handshake.Keys) {
	q.team.t.Helper()
	m2 := q.answered
	if m2 == nil {
		var r *wire.Refuse
		if m2, r = q.send(); r != nil {
			q.team.t.Fatalf("refused with %s: %s", r.Code, r.Detail)
		}
	}
	m3, accepted, keys, err := q.hs.Confirm(m2, func(id key.ID) (key.Public[key.Agent], error) { return q.agent.cert.Key(id) })
	if err != nil {
		q.team.t.Fatal(err)
	}
	if accepted.Flags != uint32(wire.SessionProtocol) {
		q.team.t.Errorf("ACCEPT has the flags %x", accepted.Flags)
	}
	return m3, keys
}

// startRelay gives the team a relay.
func (k *team) startRelay() {
	k.t.Helper()
	s, err := relay.Start(k.t.Context(), relay.Config{UDP: netip.MustParseAddrPort("127.0.0.1:0"), Secret: k.secret})
	if err != nil {
		k.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	k.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			k.t.Errorf("relay: %v", err)
		}
	})
	udp, _ := s.Addr()
	k.relays = []wire.RelayEndpoint{{UDP: udp.String()}}
}

// dial opens the session of an accepted request, as the operator does.
func (q *ask) dial() *session.Conn {
	q.team.t.Helper()
	conn, err := q.tryDial()
	if err != nil {
		q.team.t.Fatal(err)
	}
	q.team.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (q *ask) tryDial() (*session.Conn, error) {
	m3, keys := q.wantAccept()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	l, err := link.Open(ctx, link.Config{Relay: q.operator})
	if err != nil {
		return nil, err
	}
	return session.Dial(ctx, session.DialConfig{Link: l, M3: m3, Keys: keys})
}

// until waits for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

const killedEnv = "TUCDESK_TEST_AGENT"
