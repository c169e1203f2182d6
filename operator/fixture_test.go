package operator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func generate[R key.Role]() key.Private[R] { return must(key.Generate[R]()) }

// team is a team with its owner's key at hand, and the state folder of one of
// its operators, ann. Nothing listens at its server's address.
type team struct {
	owner    key.Private[key.Owner]
	ann, bob key.Private[key.Operator]
	enroller key.Private[key.Enroller]
	audit    key.Private[key.Audit]
	root     roster.Root
	signed   statement.Signed
	first    wire.RosterUpdate
	text     []byte // policy
	home     Home
}

func newTeam(t *testing.T) *team {
	t.Helper()
	home := Home{dir: t.TempDir()}
	m := &team{
		owner: generate[key.Owner](), bob: generate[key.Operator](), enroller: generate[key.Enroller](), audit: generate[key.Audit](),
		text: policy.Default(), home: home,
	}
	m.ann = must(keyfile.CreateKey[key.Operator](home.path(operatorKeyFile)))
	m.root = roster.Root{Team: wire.NewTeamID(), Name: "test", Owners: []key.Public[key.Owner]{m.owner.Public()}, Threshold: 1}
	m.signed = must(roster.SignRoot(m.owner, m.root))
	access := generate[key.Access]().Public()
	keys := wire.ServerKeys{Access: access, Grant: generate[key.Grant]().Public(), Audit: m.audit.Public(), TLS: sha256.Sum256(nil)}
	const url = "https://127.0.0.1:1"
	m.first = must(roster.Sign(m.owner, roster.First(m.root, m.signed.Hash(), func(r *roster.Roster) {
		r.Renew(time.Now(), roster.DefaultLifetime)
		r.Servers = []roster.Server{{Name: "main", URL: url, Keys: keys}}
		r.Operators = []roster.Operator{
			{Key: m.ann.Public(), Email: "ann@example.org", Person: "ann", Role: policy.Admin},
			{Key: m.bob.Public(), Email: "bob@example.org", Person: "bob", Role: policy.Approver},
		}
		r.Enrollers = []roster.Enroller{{Key: m.enroller.Public(), Tags: []string{"prod"}, MaxLifetime: 3600}}
		r.PolicyHash = sha256.Sum256(m.text)
	})))
	err := home.writeJSON(teamFile, membership{URL: url, Pin: keys.TLS, Access: access.ID(), Team: m.root.Team, Fingerprint: m.signed.Hash(), Root: m.signed})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *team) news() wire.RosterNews {
	return wire.RosterNews{Updates: []wire.RosterUpdate{m.first}, Policy: m.text}
}

// account opens ann's account, which has learnt of the first roster.
func (m *team) account(t *testing.T) *account {
	t.Helper()
	a, err := open(m.home)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.close)
	if err := a.learn(m.news()); err != nil {
		t.Fatal(err)
	}
	return a
}

// next is the roster after a's, changed by edit and signed.
func (m *team) next(a *account, edit func(*roster.Roster)) wire.RosterUpdate {
	return must(roster.Sign(m.owner, roster.Next(a.state, func(r *roster.Roster) {
		r.Renew(time.Now(), roster.DefaultLifetime)
		edit(r)
	})))
}

// machine makes a machine's entry in the server's list; by signs its token.
func (m *team) machine(name string, by key.Private[key.Enroller]) wire.AgentInfo {
	now, token := time.Now(), generate[key.Token]()
	tok := roster.Token{
		ID: wire.NewNonce(), Team: m.root.Team, Fingerprint: m.signed.Hash(), Tags: []string{}, IssuedAt: wire.At(now), ExpiresAt: wire.At(now.Add(time.Hour)),
		Server: roster.Address{URL: "https://127.0.0.1:1", Pin: sha256.Sum256(nil), Access: key.ID{1}}, MaxUses: 1, Key: token.Public(),
	}
	cert := roster.AgentCert{Team: m.root.Team, Agent: generate[key.Agent]().Public(), Name: name, Tags: []string{}, TokenID: tok.ID, IssuedAt: wire.At(now)}
	return wire.AgentInfo{Token: must(roster.SignToken(by, tok)), Certificate: must(roster.SignAgent(token, tok, cert))}
}

// request makes a signed request of by's.
func (m *team) request(by key.Private[key.Operator], edit func(*wire.Request)) wire.RequestInfo {
	now := time.Now()
	r := wire.Request{
		ID: wire.NewNonce(), IssuedAt: wire.At(now), ExpiresAt: wire.At(now.Add(wire.GatedRequestLifetime)), Team: m.root.Team,
		Session: wire.NewSessionID(), Operator: by.ID(), Suites: []uint16{1}, Protocols: []uint16{tdsVersion}, Action: wire.Exec,
		Params: wire.Params{Argv: []wire.Bytes{wire.Bytes("true")}, Env: []wire.EnvVar{}},
	}
	if edit != nil {
		edit(&r)
	}
	signed := must(statement.Sign(by, r))
	return wire.RequestInfo{Hash: signed.Hash(), Request: signed, State: wire.RequestPending, Need: 1, Roles: []string{"approver"}}
}

// pipe is a standard input that is no terminal and holds text.
func pipe(t *testing.T, text string) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// tucdesk runs one command line as the program does.
func tucdesk(t *testing.T, args ...string) (status int, out, talk string) {
	t.Helper()
	var o, e bytes.Buffer
	status = cli.Run(context.Background(), &cli.IO{In: pipe(t, ""), Out: &o, Err: &e}, Command(), args)
	return status, o.String(), e.String()
}

// write puts a file into a folder of its own, with a mode.
func write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// folder lists what lies in a folder.
func folder(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return slices.Sorted(slices.Values(names))
}
