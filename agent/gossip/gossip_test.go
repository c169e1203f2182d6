package gossip

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/agent/trust"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // the test's own set-up
	}
	return v
}

// server is one of the team, with its log.
type server struct {
	name   string
	access key.Private[key.Access]
	grant  key.Private[key.Grant]
	audit  key.Private[key.Audit]

	origin string
	leaves int64
	hashes []key.Hash
}

func newServer(name string) *server {
	return &server{name: name, access: must(key.Generate[key.Access]()), grant: must(key.Generate[key.Grant]()), audit: must(key.Generate[key.Audit]())}
}

func (s *server) entry() roster.Server {
	return roster.Server{Name: s.name, URL: "https://127.0.0.1:1", Keys: wire.ServerKeys{
		Access: s.access.Public(), Grant: s.grant.Public(), Audit: s.audit.Public(), TLS: key.Hash{1},
	}}
}

// AuditHashes is how the tree reads the log.
func (s *server) AuditHashes(indexes []int64) (list []key.Hash, err error) {
	for _, i := range indexes {
		list = append(list, s.hashes[i])
	}
	return list, nil
}

func (s *server) add(leaves ...string) {
	for _, l := range leaves {
		_, hashes, err := tree.Grow(s, s.leaves, []byte(l))
		s.hashes = append(s.hashes, must(hashes, err)...)
		s.leaves++
	}
}

// show is the newest checkpoint, for whoever saw from entries.
func (s *server) show(from int64) wire.AuditGossip {
	g := wire.AuditGossip{Checkpoint: must(checkpoint.Sign(checkpoint.Checkpoint{Origin: s.origin, Head: must(tree.HeadOf(s, s.leaves))}, s.audit))}
	if from > 0 && from < s.leaves {
		g.Consistency = must(tree.ProveConsistency(s, from, s.leaves))
	}
	return g
}

// team is an agent's folder and the rosters that its keeper follows.
type team struct {
	t      *testing.T
	dir    string
	owner  key.Private[key.Owner]
	agent  key.Private[key.Agent]
	state  *roster.State
	keeper *trust.Keeper
}

func newTeam(t *testing.T, servers ...*server) *team {
	t.Helper()
	k := &team{t: t, dir: filepath.Join(t.TempDir(), "state"), owner: must(key.Generate[key.Owner]()), agent: must(key.Generate[key.Agent]())}
	text := policy.Default()
	rules := must(policy.Parse(text))
	root := roster.Root{Team: wire.NewTeamID(), Name: "team", Owners: []key.Public[key.Owner]{k.owner.Public()}, Threshold: 1}
	signed := must(roster.SignRoot(k.owner, root))
	first := must(roster.Sign(k.owner, roster.First(root, signed.Hash(), func(r *roster.Roster) {
		r.Renew(time.Now(), time.Hour)
		r.PolicyHash = rules.Hash()
		r.Servers = k.entries(root.Team, servers)
		r.Operators = []roster.Operator{{Key: must(key.Generate[key.Operator]()).Public(), Email: "ann@example.com", Person: "ann", Role: policy.Admin}}
	})))
	k.state = must(roster.Found(signed, signed.Hash(), first))
	if err := keyfile.CreateDir(k.dir); err != nil {
		t.Fatal(err)
	}
	if err := trust.Create(k.dir, &trust.Trust{Roster: k.state, Rules: rules}, text); err != nil {
		t.Fatal(err)
	}
	k.keeper = must(trust.Open(k.dir, signed.Hash()))
	return k
}

func (k *team) entries(id wire.TeamID, servers []*server) (list []roster.Server) {
	for _, s := range servers {
		s.origin = checkpoint.Origin(s.name, id)
		list = append(list, s.entry())
	}
	return list
}

// have is the next roster, with these servers alone.
func (k *team) have(servers ...*server) {
	k.t.Helper()
	u := must(roster.Sign(k.owner, roster.Next(k.state, func(r *roster.Roster) {
		r.Renew(time.Now(), time.Hour)
		r.Servers = k.entries(k.state.Team(), servers)
	})))
	k.state = must(k.state.Apply(u, time.Now()))
	if _, err := k.keeper.Apply(wire.RosterNews{Updates: []wire.RosterUpdate{u}}, time.Now()); err != nil {
		k.t.Fatal(err)
	}
}

func (k *team) open() *Memory {
	k.t.Helper()
	return must(Open(k.dir, k.keeper, k.agent, slog.New(slog.DiscardHandler)))
}

// damage makes what is remembered of a server's log unreadable.
func (k *team) damage(s *server) (path string) {
	k.t.Helper()
	path = Path(k.dir, checkpoint.Origin(s.name, k.state.Team()))
	if err := os.WriteFile(path, []byte("torn"), 0o600); err != nil {
		k.t.Fatal(err)
	}
	return path
}

func wantErr(t *testing.T, m *Memory, want refusal.Code) {
	t.Helper()
	if err := m.Err(); refusal.Of(err) != want || (err == nil) != (want == "") {
		t.Errorf("%v, want %q", err, want)
	}
}

// Nobody can say whether there is evidence against a server whose memory cannot be
// read. That another one's can be says nothing of it.
func TestUnreadableMemoryHoldsWhoeverIsMetNext(t *testing.T) {
	main, a, b := newServer("main"), newServer("a"), newServer("b")
	k := newTeam(t, main)
	m := k.open()
	wantErr(t, m, "")
	path := k.damage(a)
	k.have(main, a, b)
	for _, order := range [][]*server{{a, b, main}, {b, a}, {main, b}} {
		for _, s := range order {
			m.Begin(s.access.ID())
			wantErr(t, m, refusal.AuditFork)
		}
	}
	if err := os.Remove(path); err != nil { // a person has looked
		t.Fatal(err)
	}
	wantErr(t, m, "")
}

// A server that an owner has taken out cannot hold the agent for ever.
func TestUnreadableMemoryOfAServerThatLeftHoldsNothing(t *testing.T) {
	main, a, b := newServer("main"), newServer("a"), newServer("b")
	k := newTeam(t, main)
	m := k.open()
	k.damage(a)
	k.have(main, a)
	m.Begin(a.access.ID())
	wantErr(t, m, refusal.AuditFork)
	k.have(main, b)
	wantErr(t, m, "")
	k.damage(b) // read already, and newer in memory
	wantErr(t, m, "")
	k.have(main, a)
	wantErr(t, m, refusal.AuditFork)
}

func TestAgentDoesNotBeginWithAMemoryThatItCannotRead(t *testing.T) {
	main := newServer("main")
	k := newTeam(t, main)
	k.damage(main)
	if _, err := Open(k.dir, k.keeper, k.agent, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("opened")
	}
}

func TestWhatWasSeenOutlivesARestart(t *testing.T) {
	main := newServer("main")
	k := newTeam(t, main)
	m := k.open()
	main.add("founded", "one", "two")
	if size := m.Begin(main.access.ID()); size != 0 {
		t.Errorf("%d entries were seen before the first", size)
	}
	if c, verified := m.Take(main.show(0)); !verified || c.Size != 3 {
		t.Fatalf("%+v, %v", c, verified)
	}
	main.add("three")
	if _, verified := m.Take(main.show(3)); !verified {
		t.Error("a log that grew is not believed")
	}
	again := k.open()
	if size := again.Begin(main.access.ID()); size != 4 {
		t.Errorf("%d entries after a restart", size)
	}
	if c := again.Cosign(); c.Size != 4 || c.Line == "" {
		t.Errorf("cosigned %+v", c)
	}
	wantErr(t, again, "")
}

func TestServerForksItsLog(t *testing.T) {
	main, other := newServer("main"), newServer("other")
	k := newTeam(t, main, other)
	m := k.open()
	m.Begin(main.access.ID())
	main.add("founded", "one")
	m.Take(main.show(0))
	main.leaves, main.hashes = 0, nil
	main.add("founded", "another one", "two")
	if _, verified := m.Take(main.show(2)); verified {
		t.Error("the other log is believed")
	}
	wantErr(t, m, refusal.AuditFork)
	m.Begin(other.access.ID()) // an honest server helps nobody over that
	wantErr(t, m, refusal.AuditFork)
	if c := m.Cosign(); c.Line != "" {
		t.Error("cosigned")
	}
	wantErr(t, k.open(), refusal.AuditFork)
}

func TestStrangersCheckpointChangesNothing(t *testing.T) {
	main := newServer("main")
	k := newTeam(t, main)
	m := k.open()
	m.Begin(main.access.ID())
	main.add("founded")
	honest := main.audit
	main.audit = must(key.Generate[key.Audit]())
	if _, verified := m.Take(main.show(0)); verified {
		t.Error("anybody's signature is believed")
	}
	if main.audit = honest; m.Begin(main.access.ID()) != 0 {
		t.Error("it was remembered")
	}
	for name, g := range map[string]wire.AuditGossip{"nothing": {}, "no note": {Checkpoint: "x"}, "a note cut off": {Checkpoint: main.show(0).Checkpoint[:40]}} {
		if _, verified := m.Take(g); verified {
			t.Errorf("%s is believed", name)
		}
	}
	m.Begin(key.ID{1}) // of nobody in the roster
	if _, verified := m.Take(main.show(0)); verified {
		t.Error("who is not in the roster is believed")
	}
	wantErr(t, m, "")
}
