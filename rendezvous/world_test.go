package rendezvous

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/client"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
	"github.com/tucdesk/tucdesk/rendezvous/store"
)

// testPolicy allows shells everywhere and commands on request; hosts tagged prod
// are gated, hosts tagged vault are closed.
const testPolicy = `
version = 1
mode = "enforce"

[gate]
where.tags_any = ["prod"]
approval.count = 1
approval.roles = ["approver", "admin"]

[[allow]]
id = "team"
who.roles = ["operator", "approver", "admin"]
actions = ["shell", "exec"]

[[block]]
id = "vault"
where.tags_any = ["vault"]
who.roles = ["viewer", "operator", "approver", "admin", "owner"]
actions = ["shell", "exec"]
`

// node is a running server.
type node struct {
	*Server
	dir  string
	cfg  Config
	stop func()
}

// startNode creates a server in a fresh folder and runs it on loopback.
func startNode(t testing.TB) *node {
	t.Helper()
	return startNodeWith(t, nil)
}

// startNodeWith lets the test edit the configuration first.
func startNodeWith(t testing.TB, edit func(*Config), before ...func(*Server)) *node {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Name: "rv1", URL: "https://" + l.Addr().String(), State: dir, Listener: l, Endpoints: []External{{UDP: "127.0.0.1:3478"}}}
	if edit != nil {
		edit(&cfg)
	}
	if err := Create(dir, cfg); err != nil {
		t.Fatal(err)
	}
	if cfg.Database == "" {
		must(0, os.WriteFile(filepath.Join(dir, fileDatabase), emptyTables(), 0o600))
	}
	return runNode(t, cfg, before...)
}

// emptyTables is a database as a server leaves it that has just made its tables,
// which it then need not do once for every test.
var emptyTables = sync.OnceValue(func() []byte {
	dir := must(os.MkdirTemp("", "tables"))
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, fileDatabase)
	must(0, must(store.Open(context.Background(), "sqlite:"+path)).Close())
	return must(os.ReadFile(path))
})

func runNode(t testing.TB, cfg Config, before ...func(*Server)) *node {
	t.Helper()
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, edit := range before {
		edit(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	n := &node{Server: s, dir: cfg.State, cfg: cfg}
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server ended with %v", err)
		}
	})
	t.Cleanup(n.stop)
	return n
}

// restart stops the server and runs it again on the same state, under the same name.
// The port is another: between the two somebody else could have got the old one.
func (n *node) restart(t testing.TB) *node {
	t.Helper()
	n.stop()
	return n.second(t)
}

// second runs another process' worth of server on n's keys and database, reached
// under the same name at another address.
func (n *node) second(t testing.TB) *node {
	t.Helper()
	cfg := n.cfg
	var err error
	if cfg.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	return runNode(t, cfg)
}

// reach dials a node whatever the address says, as a balancer would.
func (n *node) reach(ctx context.Context, network, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, n.Addr().String())
}

// noLeaks fails the test when a goroutine outlives it; call it first. Connections that
// were closed take their time to end on a busy machine, more than goleak gives them.
func noLeaks(t testing.TB) {
	t.Helper()
	opt := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		end := time.Now().Add(patience)
		err := goleak.Find(opt)
		for err != nil && time.Now().Before(end) {
			err = goleak.Find(opt)
		}
		if err != nil {
			t.Error(err)
		}
	})
}

// patience is how long a test waits for what must happen. It says nothing about how
// long that may take.
const patience = time.Minute

// person is an operator of a test team.
type person struct {
	key  key.Private[key.Operator]
	cred client.Credentials
}

// crew is a team founded on a node, with one person for each role.
type crew struct {
	t      testing.TB
	node   *node
	owner  key.Private[key.Owner]
	state  *roster.State
	root   statement.Signed
	people map[policy.Role]*person
	api    *client.Client
	token  roster.Token
	signed statement.Signed // of token
	seed   key.Private[key.Token]
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("test: %v", err))
	}
	return v
}

func (n *node) config() client.Config {
	return client.Config{URL: n.cfg.URL, Pin: n.keys.Pin, Access: n.keys.Access.ID(), Dial: n.reach}
}

func newAPI(t testing.TB, n *node) *client.Client {
	t.Helper()
	c := must(client.New(n.config()))
	t.Cleanup(c.Close)
	return c
}

var allRoles = []policy.Role{policy.Viewer, policy.Operator, policy.Approver, policy.Admin}

// foundation makes everything a set-up needs, without sending it.
func foundation(t testing.TB, n *node) (*crew, wire.SetupRequest) {
	t.Helper()
	c := &crew{t: t, node: n, owner: must(key.Generate[key.Owner]()), people: map[policy.Role]*person{}}
	info := must(roster.ParseSetup(must(n.SetupString(t.Context()))))
	root := roster.Root{Team: wire.NewTeamID(), Name: "acme", Owners: []key.Public[key.Owner]{c.owner.Public()}, Threshold: 1}
	c.root = must(roster.SignRoot(c.owner, root))
	sum := sha256.Sum256([]byte(testPolicy))
	v1 := must(roster.Sign(c.owner, roster.First(root, c.root.Hash(), func(r *roster.Roster) {
		r.Servers = append(r.Servers, info.Server())
		for _, role := range allRoles {
			p := &person{key: must(key.Generate[key.Operator]())}
			c.people[role] = p
			r.Operators = append(r.Operators, roster.Operator{Key: p.key.Public(), Email: role.String() + "@acme.example", Person: role.String(), Role: role})
		}
		r.PolicyHash = sum
		r.Renew(time.Now(), roster.DefaultLifetime)
	})))
	c.state = must(roster.Found(c.root, c.root.Hash(), v1))
	setup := must(roster.SignSetup(c.owner, c.state, info, time.Now()))
	return c, wire.SetupRequest{Code: info.Code, Setup: setup, Root: c.root, Roster: []wire.RosterUpdate{v1}, Policy: wire.Bytes(testPolicy)}
}

// found founds a team on n and logs everybody in.
func found(t testing.TB, n *node) *crew {
	t.Helper()
	c, req := foundation(t, n)
	c.api = newAPI(t, n)
	if err := c.api.Setup(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	c.login()
	c.publishToken("prod", "vault", "web")
	return c
}

// login gives everybody the token that a login would, without the four logins that
// would be a good part of every test; those that are about logins log in.
func (c *crew) login() {
	for role, p := range c.people {
		c.mint(p, role)
	}
}

func (c *crew) mint(p *person, role policy.Role) {
	c.t.Helper()
	team := must(c.node.teams.Find(c.t.Context(), c.state.Team()))
	op := must(c.state.Operator(p.key.ID(), time.Now()))
	token, end, err := c.node.issuer.Mint(principal.Principal{Team: team.ID, Operator: p.key.ID(), Email: op.Email, Person: op.Person, Role: role}, time.Now())
	if err != nil {
		c.t.Fatal(err)
	}
	p.cred = client.Credentials{Key: p.key, Team: c.state.Team(), Token: token, Expires: end.Time()}
}

func (c *crew) cred(r policy.Role) client.Credentials { return c.people[r].cred }

func (c *crew) publishToken(tags ...string) {
	c.t.Helper()
	c.seed = must(key.Generate[key.Token]())
	now := wire.At(time.Now())
	server := must(c.state.Server(c.node.keys.Access.ID()))
	c.token = roster.Token{ID: wire.NewNonce(), Team: c.state.Team(), Fingerprint: c.state.Fingerprint(), Server: server.Address(),
		Tags: tags, IssuedAt: now, ExpiresAt: now + 3_600_000, MaxUses: 50, Key: c.seed.Public()}
	c.signed = must(roster.SignToken(c.owner, c.token))
	if err := c.api.PublishToken(c.t.Context(), c.cred(policy.Admin), c.signed); err != nil {
		c.t.Fatal(err)
	}
}

// publish signs and uploads the next roster.
func (c *crew) publish(edit func(*roster.Roster)) {
	c.t.Helper()
	u := must(roster.Sign(c.owner, roster.Next(c.state, func(r *roster.Roster) {
		edit(r)
		r.Renew(time.Now(), roster.DefaultLifetime)
	})))
	if err := c.api.PublishRoster(c.t.Context(), c.cred(policy.Admin), wire.RosterPublish{Update: u}); err != nil {
		c.t.Fatal(err)
	}
	c.state = must(c.state.Apply(u, time.Now()))
}

// host is an agent's identity, and its control channel once dialled.
type host struct {
	crew *crew
	key  key.Private[key.Agent]
	cert statement.Signed
	name string
	ctl  *client.Control

	version  string // "" is "test"
	hostname string // "" is name
}

func (c *crew) newHost(name string, tags ...string) *host {
	c.t.Helper()
	h := &host{crew: c, key: must(key.Generate[key.Agent]()), name: name}
	if tags == nil {
		tags = []string{}
	}
	h.cert = must(roster.SignAgent(c.seed, c.token, roster.AgentCert{Team: c.state.Team(), Agent: h.key.Public(), Name: name, Tags: tags,
		TokenID: c.token.ID, IssuedAt: wire.At(time.Now())}))
	return h
}

// registration is what an honest agent signs for channel.
func (h *host) registration(channel key.Hash) wire.Registration {
	return wire.Registration{ID: wire.NewNonce(), IssuedAt: wire.At(time.Now()), Team: h.crew.state.Team(), Agent: h.key.Public(),
		Certificate: h.cert.Hash(), Server: h.crew.node.keys.Access.ID(), Channel: channel, ClientVersion: cmp.Or(h.version, "test")}
}

func (h *host) hello(edit func(*wire.Registration)) func(key.Hash) (wire.Register, error) {
	return func(channel key.Hash) (wire.Register, error) {
		r := h.registration(channel)
		if edit != nil {
			edit(&r)
		}
		signed, err := statement.Sign(h.key, r)
		return wire.Register{Registration: signed, Token: h.crew.signed, Certificate: h.cert, Platform: "linux/amd64", Hostname: cmp.Or(h.hostname, h.name),
			Roster: h.crew.state.Version()}, err
	}
}

// dial registers and fails the test when that is refused.
func (h *host) dial() wire.Registered {
	h.crew.t.Helper()
	ctl, reg, err := client.DialControl(h.crew.t.Context(), h.crew.node.config(), h.hello(nil))
	if err != nil {
		h.crew.t.Fatal(err)
	}
	h.ctl = ctl
	h.crew.t.Cleanup(ctl.Close)
	return reg
}

// serve answers OPENs with what answer says until the channel ends.
func (h *host) serve(answer func(wire.OpenSession) (wire.FrameType, any)) {
	h.crew.t.Helper()
	ctl, done := h.ctl, make(chan struct{}) // of now: the host may dial again
	go func() {
		defer close(done)
		for {
			f, err := ctl.Receive(context.Background())
			if err != nil {
				return
			}
			if f.Type != wire.FrameOpen {
				continue
			}
			var open wire.OpenSession
			if json.Unmarshal(f.Body, &open) != nil {
				return
			}
			typ, v := answer(open)
			body := must(json.Marshal(v))
			if ctl.Send(context.Background(), wire.Frame{Type: typ, ID: f.ID, Body: body}) != nil {
				return
			}
		}
	}()
	h.crew.t.Cleanup(func() { ctl.Close(); <-done })
}

// accepting serves with an ACCEPT that carries the grant's hash.
func (h *host) accepting() *host {
	h.dial()
	h.serve(func(o wire.OpenSession) (wire.FrameType, any) {
		hash := o.Grant.Hash()
		return wire.FrameAccept, wire.AcceptSession{Accept: hash[:]}
	})
	return h
}

// request is an honest session request for h by p.
func (c *crew) request(p *person, h *host, edit func(*wire.Request)) wire.SessionOpen {
	now := time.Now()
	r := wire.Request{ID: wire.NewNonce(), IssuedAt: wire.At(now), ExpiresAt: wire.At(now.Add(wire.RequestLifetime)), Team: c.state.Team(),
		Session: wire.NewSessionID(), Operator: p.key.ID(), Agent: h.key.ID(), RosterVersion: c.state.Version(), RosterHash: c.state.Hash(),
		PolicyHash: c.state.PolicyHash(), Suites: []uint16{1}, Protocols: []uint16{wire.SessionProtocol}, Eph: key.Hash{1}, Action: wire.Shell,
		Params: wire.Params{Argv: []wire.Bytes{}, Env: []wire.EnvVar{}}, Reason: "test"}
	if edit != nil {
		edit(&r)
	}
	return wire.SessionOpen{Request: must(statement.Sign(p.key, r)), Open: make(wire.Bytes, 120)}
}

// entries returns the team's log, decoded.
func (c *crew) entries() []entry.Entry {
	c.t.Helper()
	t := c.node.teams.Known(c.state.Team())
	var list []entry.Entry
	err := c.node.store.View(context.Background(), t.ID, func(tx *store.Tx) error {
		list = nil
		size, err := tx.AuditSize()
		if err != nil {
			return err
		}
		raw, err := tx.AuditEntries(0, size)
		for _, s := range raw {
			e, _, err := statement.OpenSelfSigned(s, func(entry.Entry, key.ID) (statement.Verifier, error) { return c.node.keys.Audit.Public(), nil })
			if err != nil && refusal.Of(err) != refusal.BadSignature {
				return err
			}
			list = append(list, e)
		}
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return list
}

// logged fails unless the log has an entry of this type and refusal.
func (c *crew) logged(typ entry.EventType, code refusal.Code) entry.Entry {
	c.t.Helper()
	all := c.entries()
	i := slices.IndexFunc(all, func(e entry.Entry) bool { return e.Type == typ && e.Refusal == code })
	if i < 0 {
		c.t.Fatalf("no entry %s/%s in the log of %d entries", typ, code, len(all))
	}
	return all[i]
}

// wantCode fails unless err is the refusal code.
func wantCode(t testing.TB, err error, code refusal.Code) {
	t.Helper()
	if refusal.Of(err) != code {
		t.Fatalf("got %v, want %s", err, code)
	}
}

// wantStatus fails unless err came with this HTTP status.
func wantStatus(t testing.TB, err error, status int) {
	t.Helper()
	var p *client.Problem
	if !errors.As(err, &p) || p.Status != status {
		t.Fatalf("got %v, want status %d", err, status)
	}
	if len(p.RequestID) != 32 || strings.Contains(p.Refusal.Detail, "sql") {
		t.Fatalf("problem %+v", p)
	}
}

// eventually polls until cond holds, with patience.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

func sign[P statement.Payload](t testing.TB, k statement.Signer, p P) statement.Signed {
	t.Helper()
	s, err := statement.Sign(k, p)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sha(b []byte) key.Hash { return sha256.Sum256(b) }
