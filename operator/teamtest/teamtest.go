// Package teamtest is a team for tests of the client's packages: real keys, a real
// roster and a state folder, and no server. It is imported by tests only.
package teamtest

import (
	"crypto/sha256"
	_ "embed"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// Must is v; a test cannot go on without it.
func Must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Generate makes a key.
func Generate[R key.Role]() key.Private[R] { return Must(key.Generate[R]()) }

// Team is a team with its owner's key at hand, and the state folder of one of
// its operators, ann. Nothing listens at its server's address.
type Team struct {
	Owner    key.Private[key.Owner] // the one who founds and proposes
	Ann, Bob key.Private[key.Operator]
	Enroller key.Private[key.Enroller]
	audit    key.Private[key.Audit]
	Root     roster.Root
	signed   statement.Signed
	first    wire.RosterUpdate
	Text     []byte // policy
	Home     account.Home
}

// NewTeam founds a team of one owner.
func NewTeam(t *testing.T) *Team {
	t.Helper()
	return NewTeamOf(t)
}

// NewTeamOf founds a team of that many owners more, all of whom must sign.
func NewTeamOf(t *testing.T, more ...key.Private[key.Owner]) *Team {
	t.Helper()
	home := account.Home{Dir: t.TempDir()}
	m := &Team{
		Owner: Generate[key.Owner](), Bob: Generate[key.Operator](), Enroller: Generate[key.Enroller](), audit: Generate[key.Audit](),
		Text: policy.Default(), Home: home,
	}
	m.Ann = Must(keyfile.CreateKey[key.Operator](home.Path(account.OperatorKeyFile)))
	m.Root = roster.Root{Team: wire.NewTeamID(), Name: "test", Owners: []key.Public[key.Owner]{m.Owner.Public()}, Threshold: 1 + len(more)}
	for _, o := range more {
		m.Root.Owners = append(m.Root.Owners, o.Public())
	}
	m.signed = Must(roster.SignRoot(m.Owner, m.Root))
	access := Generate[key.Access]().Public()
	keys := wire.ServerKeys{Access: access, Grant: Generate[key.Grant]().Public(), Audit: m.audit.Public(), TLS: sha256.Sum256(nil)}
	const url = "https://127.0.0.1:1"
	m.first = Must(roster.Sign(m.Owner, roster.First(m.Root, m.signed.Hash(), func(r *roster.Roster) {
		r.Renew(time.Now(), roster.DefaultLifetime)
		r.Servers = []roster.Server{{Name: "main", URL: url, Keys: keys}}
		r.Operators = []roster.Operator{
			{Key: m.Ann.Public(), Email: "ann@example.org", Person: "ann", Role: policy.Admin},
			{Key: m.Bob.Public(), Email: "bob@example.org", Person: "bob", Role: policy.Approver},
		}
		r.Enrollers = []roster.Enroller{{Key: m.Enroller.Public(), Tags: []string{"prod", "env=stage"}, MaxLifetime: 3600}}
		r.PolicyHash = sha256.Sum256(m.Text)
	})))
	for _, o := range more {
		m.first = Must(roster.Cosign(o, m.first))
	}
	err := home.WriteJSON(account.TeamFile, account.Membership{URL: url, Pin: keys.TLS, Access: access.ID(), Team: m.Root.Team, Fingerprint: m.signed.Hash(), Root: m.signed})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// News is what a server sends a client that knows nothing.
func (m *Team) News() wire.RosterNews {
	return wire.RosterNews{Updates: []wire.RosterUpdate{m.first}, Policy: m.Text}
}

// Account opens ann's account, which has learnt of the first roster.
func (m *Team) Account(t *testing.T) *account.Account {
	t.Helper()
	a, err := account.Open(m.Home)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	if err := a.Learn(m.News()); err != nil {
		t.Fatal(err)
	}
	return a
}

// Next is the roster after a's, changed by edit and signed.
func (m *Team) Next(a *account.Account, edit func(*roster.Roster)) wire.RosterUpdate {
	return Must(roster.Sign(m.Owner, roster.Next(a.State, func(r *roster.Roster) {
		r.Renew(time.Now(), roster.DefaultLifetime)
		edit(r)
	})))
}

// Machine makes the entry in the server's list of a machine with these tags; by signs
// its token.
func (m *Team) Machine(name string, by key.Private[key.Enroller], tags ...string) wire.AgentInfo {
	now, token := time.Now(), Generate[key.Token]()
	tok := roster.Token{
		ID: wire.NewNonce(), Team: m.Root.Team, Fingerprint: m.signed.Hash(), Tags: append([]string{}, tags...), IssuedAt: wire.At(now), ExpiresAt: wire.At(now.Add(time.Hour)),
		Server: roster.Address{URL: "https://127.0.0.1:1", Pin: sha256.Sum256(nil), Access: key.ID{1}}, MaxUses: 1, Key: token.Public(),
	}
	cert := roster.AgentCert{Team: m.Root.Team, Agent: Generate[key.Agent]().Public(), Name: name, Tags: append([]string{}, tags...), TokenID: tok.ID, IssuedAt: wire.At(now)}
	return wire.AgentInfo{Token: Must(roster.SignToken(by, tok)), Certificate: Must(roster.SignAgent(token, tok, cert))}
}

// Request makes a signed request of by's.
func (m *Team) Request(by key.Private[key.Operator], edit func(*wire.Request)) wire.RequestInfo {
	now := time.Now()
	r := wire.Request{
		ID: wire.NewNonce(), IssuedAt: wire.At(now), ExpiresAt: wire.At(now.Add(wire.GatedRequestLifetime)), Team: m.Root.Team,
		Session: wire.NewSessionID(), Operator: by.ID(), Suites: []uint16{1}, Protocols: []uint16{wire.SessionProtocol}, Action: wire.Exec,
		Params: wire.Params{Argv: []wire.Bytes{wire.Bytes("true")}, Env: []wire.EnvVar{}},
	}
	if edit != nil {
		edit(&r)
	}
	signed := Must(statement.Sign(by, r))
	return wire.RequestInfo{Hash: signed.Hash(), Request: signed, State: wire.RequestPending, Need: 1, Roles: []string{"approver"}}
}

// Pipe is a standard input that is no terminal and holds text.
func Pipe(t *testing.T, text string) *os.File {
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

// Write puts a file into a folder of its own, with a mode.
func Write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// Folder lists what lies in a folder.
func Folder(t *testing.T, dir string) (names []string) {
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

//go:embed testdata/owner.age
var ownerFile []byte

// LockedOwner is the key in testdata/owner.age, which "correct horse" unlocks at a
// cost that tests can bear; programs make such files 256 times dearer to try.
func LockedOwner(t *testing.T, home account.Home) key.Private[key.Owner] {
	t.Helper()
	file := ownerFile
	if err := os.WriteFile(home.Path(account.OwnerKeyFile), file, 0o600); err != nil {
		t.Fatal(err)
	}
	seed := sha256.Sum256([]byte("owner of the tests"))
	return Must(key.FromSeed[key.Owner](seed[:]))
}
