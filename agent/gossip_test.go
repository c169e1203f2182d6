//go:build linux

package agent

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/agent/gossip"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/audit/witness"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// fakeLog is a server's log by hand: honest, until a test changes what it says.
type fakeLog struct {
	origin string
	key    key.Private[key.Audit]
	leaves [][]byte
	hashes []key.Hash
}

func (l *fakeLog) AuditHashes(indexes []int64) (list []key.Hash, err error) {
	for _, i := range indexes {
		list = append(list, l.hashes[i])
	}
	return list, nil
}

func (l *fakeLog) add(leaf []byte) {
	_, hashes, err := tree.Grow(l, int64(len(l.leaves)), leaf)
	if err != nil {
		panic(err)
	}
	l.leaves, l.hashes = append(l.leaves, leaf), append(l.hashes, hashes...)
}

// gossip shows the log to whoever saw from entries of it.
func (l *fakeLog) gossip(from int64) wire.AuditGossip {
	size := int64(len(l.leaves))
	g := wire.AuditGossip{Checkpoint: must(checkpoint.Sign(checkpoint.Checkpoint{Origin: l.origin, Head: must(tree.HeadOf(l, size))}, l.key))}
	if from > 0 && from < size {
		g.Consistency = must(tree.ProveConsistency(l, from, size))
	}
	return g
}

// take stores entries and proves them, as an honest server does.
func (l *fakeLog) take(list []statement.Signed, from int64) wire.AuditAck {
	ack := wire.AuditAck{First: entry.Peek(list[0]).Seq}
	first := int64(len(l.leaves))
	for i, s := range list {
		l.add(s)
		ack.Seq = ack.First + uint64(i)
	}
	for i := range list {
		paths := must(tree.ProveInclusion(l, int64(len(l.leaves)), first+int64(i)))
		ack.Proofs = append(ack.Proofs, wire.Inclusion{Index: first + int64(i), Path: paths[0]})
	}
	ack.Checkpoint = l.gossip(from)
	return ack
}

// spooled is an agent with three entries that no log has, on a connection to the log.
func spooled(t *testing.T, k *team) (*Agent, *fakeLog) {
	t.Helper()
	a := k.agent()
	a.gossip.Begin(k.access.ID())
	for range 3 {
		if err := a.record(entry.Entry{Type: entry.AgentStart}); err != nil {
			t.Fatal(err)
		}
	}
	l := &fakeLog{origin: checkpoint.Origin("main", k.state.Team()), key: k.audit}
	l.add([]byte("the team was founded"))
	return a, l
}

func wantSpooled(t *testing.T, a *Agent, n int) {
	t.Helper()
	if list := must(a.spool.Pending(0, wire.MaxAuditBatch)); len(list) != n {
		t.Errorf("%d entries are kept, not %d", len(list), n)
	}
}

func TestEntriesGoWhenTheLogProvesThem(t *testing.T) {
	k := newTeam(t, openPolicy)
	a, l := spooled(t, k)
	all := must(a.spool.Pending(0, 9))
	a.acked(wire.AuditAck{Seq: 3}) // a claim
	wantSpooled(t, a, 3)
	a.acked(l.take(all[:2], 0))
	wantSpooled(t, a, 1)
	a.acked(l.take(all[2:], 3)) // the next proof begins where the last one ended
	wantSpooled(t, a, 0)
	if err := a.gossip.Err(); err != nil {
		t.Error(err)
	}
	k.askFor(a, "ann", nil).wantAccept()
}

// A server that says "I have it" and cannot prove it gets no further sessions, and
// the agent forgets nothing, also after a restart.
func TestLyingAckFreezesTheAgentAndKeepsItsEntries(t *testing.T) {
	for name, lie := range map[string]func(*fakeLog, *wire.AuditAck){
		"not in the log": func(l *fakeLog, ack *wire.AuditAck) { ack.Proofs[1] = ack.Proofs[0] },
		"path":           func(_ *fakeLog, ack *wire.AuditAck) { ack.Proofs[2].Path[0][0] ^= 1 },
		"place":          func(_ *fakeLog, ack *wire.AuditAck) { ack.Proofs[0].Index = 0 },
		"other entries":  func(_ *fakeLog, ack *wire.AuditAck) { ack.First = 2 },
		"older checkpoint": func(l *fakeLog, ack *wire.AuditAck) {
			l.leaves, l.hashes = l.leaves[:1], l.hashes[:1]
			ack.Checkpoint = l.gossip(0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := newTeam(t, openPolicy)
			a, l := spooled(t, k)
			ack := l.take(must(a.spool.Pending(0, 9)), 0)
			lie(l, &ack)
			a.acked(ack)
			wantSpooled(t, a, 3)
			k.askFor(a, "ann", nil).wantRefusal(refusal.AuditFork)
			seen, err := witness.Open(gossip.Path(a.dir, l.origin), l.origin)
			if err != nil || len(seen.Evidence()) != 1 {
				t.Fatalf("evidence %v, %v", seen.Evidence(), err)
			}
			if c := a.gossip.Cosign(); c.Line != "" {
				t.Error("cosigned what is contradicted")
			}
			dir := a.dir
			stop(a)
			again := k.open(dir)
			t.Cleanup(func() { stop(again) })
			wantSpooled(t, again, 4) // the refusal is in the log as well
			k.askFor(again, "ann", nil).wantRefusal(refusal.AuditFork)
		})
	}
}

// beyond is an answer of a log that has more entries of the agent than the agent has:
// its disk was set back, or the server says so.
func beyond(ack wire.AuditAck) wire.AuditAck {
	ack.Seq = 9
	return ack
}

// An agent whose disk was set back accuses nobody: what the server shows next extends
// what it showed with that answer.
func TestSetBackAgentAccusesNoHonestServer(t *testing.T) {
	k := newTeam(t, openPolicy)
	a, l := spooled(t, k)
	a.gossip.Take(l.gossip(0))
	if s := a.status(time.Now()); s.Code != "" || s.Forked {
		t.Errorf("before that: %+v", s)
	}
	a.acked(beyond(l.take(must(a.spool.Pending(0, 2)), 1)))
	wantSpooled(t, a, 1) // those are proven
	l.add([]byte("somebody logged in"))
	if _, verified := a.gossip.Take(l.gossip(3)); !verified {
		t.Error("an honest log is not believed")
	}
	if err := a.gossip.Err(); err != nil {
		t.Fatal(err)
	}
	if s := a.status(time.Now()); s.Code != refusal.AuditFork || !s.Forked || !strings.Contains(strings.Join(s.Warnings, " "), "join anew") {
		t.Errorf("it says %+v", s)
	}
	k.askFor(a, "ann", nil).wantAccept() // whoever mends it may come that way
}

// A claim that is too high is no cover: a checkpoint that does not fit and a proof that
// does not hold are evidence beside it as without it.
func TestForkingServerGainsNothingByClaimingTooMuch(t *testing.T) {
	for name, lie := range map[string]func(*fakeLog, *wire.AuditAck){
		"proof": func(_ *fakeLog, ack *wire.AuditAck) { ack.Proofs[0].Index = 0 },
		"checkpoint": func(l *fakeLog, ack *wire.AuditAck) {
			l.leaves, l.hashes = nil, nil
			for range 6 {
				l.add([]byte("another"))
			}
			ack.Checkpoint, ack.Proofs = l.gossip(1), nil
		},
	} {
		k := newTeam(t, openPolicy)
		a, l := spooled(t, k)
		a.gossip.Take(l.gossip(0))
		ack := l.take(must(a.spool.Pending(0, 9)), 1)
		lie(l, &ack)
		a.acked(beyond(ack))
		if err := a.gossip.Err(); refusal.Of(err) != refusal.AuditFork {
			t.Errorf("%s: %v", name, err)
		}
		if s := a.status(time.Now()); s.Code != refusal.AuditFork || !strings.Contains(s.Warnings[0], "no session can be opened") {
			t.Errorf("%s: it says %+v", name, s)
		}
		k.askFor(a, "ann", nil).wantRefusal(refusal.AuditFork)
	}
}

// What nobody of the roster signed is no evidence against anybody, and proves nothing.
func TestStrangersAckChangesNothing(t *testing.T) {
	k := newTeam(t, openPolicy)
	a, l := spooled(t, k)
	l.key = must(key.Generate[key.Audit]())
	a.acked(l.take(must(a.spool.Pending(0, 9)), 0))
	wantSpooled(t, a, 3)
	if err := a.gossip.Err(); err != nil {
		t.Error(err)
	}
}

// Two servers have two logs. What one showed is no measure for the other, and
// evidence against one of them stops the agent whoever it is connected to.
func TestEachServersLogIsRememberedByItself(t *testing.T) {
	k := newTeam(t, openPolicy)
	other := roster.Server{Name: "spare", URL: "https://127.0.0.1:2", Keys: wire.ServerKeys{
		Access: must(key.Generate[key.Access]()).Public(), Grant: must(key.Generate[key.Grant]()).Public(), TLS: key.Hash{2},
	}}
	audit := must(key.Generate[key.Audit]())
	other.Keys.Audit = audit.Public()
	k.next(func(r *roster.Roster) { r.Servers = append(r.Servers, other) })
	a, l := spooled(t, k)
	for range 20 {
		l.add([]byte("something"))
	}
	a.gossip.Take(l.gossip(0))
	spare := &fakeLog{origin: checkpoint.Origin("spare", k.state.Team()), key: audit}
	spare.add([]byte("founded"))
	if size := a.gossip.Begin(other.Keys.Access.ID()); size != 0 {
		t.Errorf("%d entries of a log that was never seen", size)
	}
	if _, verified := a.gossip.Take(spare.gossip(0)); !verified { // shorter than the first server's
		t.Error("the second log is not believed")
	}
	if _, verified := a.gossip.Take(l.gossip(0)); verified {
		t.Error("the second server showed the first one's log")
	}
	if size := a.gossip.Begin(k.access.ID()); size != 21 || a.gossip.Err() != nil {
		t.Errorf("%d entries, %v", size, a.gossip.Err())
	}
	if c := a.gossip.Cosign(); c.Size != 21 {
		t.Errorf("cosigned %+v", c)
	}
	if c := a.gossip.Cosign(); c.Line != "" {
		t.Error("cosigned twice")
	}
	forged := slices.Clone(spare.leaves)
	a.gossip.Begin(other.Keys.Access.ID())
	spare.leaves, spare.hashes = nil, nil
	for range forged {
		spare.add([]byte("another"))
	}
	a.gossip.Take(spare.gossip(0))
	a.gossip.Begin(k.access.ID())
	k.askFor(a, "ann", nil).wantRefusal(refusal.AuditFork)
	if size := a.gossip.Begin(key.ID{1}); size != 0 {
		t.Errorf("%d entries at a server of nobody's", size)
	}
}
