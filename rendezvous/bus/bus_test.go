package bus

import (
	"context"
	"sync"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
)

// line is the edge: a connection without a network.
type line struct {
	name wire.FrameType

	mu    sync.Mutex
	ended int
}

func (l *line) Ask(context.Context, wire.Frame) (wire.Frame, error) {
	return wire.Frame{Type: l.name}, nil
}
func (l *line) Tell(wire.Frame)       {}
func (l *line) Offer(wire.Frame) bool { return true }
func (l *line) Displace() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended++
}

func TestNobodyThereIsOfflineAtOnce(t *testing.T) {
	b := New()
	_, err := b.Ask(t.Context(), principal.TeamID{}, key.ID{1}, wire.Frame{})
	if refusal.Of(err) != refusal.Offline {
		t.Fatal(err)
	}
}

func TestNewestConnectionHasTheAgent(t *testing.T) {
	b := New()
	var team principal.TeamID
	old, young := &line{name: "old"}, &line{name: "young"}
	detachOld, displaced := b.Attach(team, key.ID{1}, old)
	if displaced {
		t.Fatal("displaced nobody")
	}
	detachYoung, displaced := b.Attach(team, key.ID{1}, young)
	if !displaced || old.ended != 1 || young.ended != 0 {
		t.Fatalf("displaced %v, old %d, young %d", displaced, old.ended, young.ended)
	}
	detachOld() // the old one leaves late and takes nothing with it
	f, err := b.Ask(t.Context(), team, key.ID{1}, wire.Frame{})
	if err != nil || f.Type != "young" {
		t.Fatalf("%s, %v", f.Type, err)
	}
	detachYoung()
	detachYoung()
	if b.Online(team, key.ID{1}) || b.Len() != 0 || len(b.conns) != 0 {
		t.Fatal("somebody is left")
	}
}

func TestEachSeesOneTeamsAgents(t *testing.T) {
	b := New()
	var team principal.TeamID
	for i := range byte(3) {
		b.Attach(team, key.ID{i}, &line{})
	}
	seen := map[key.ID]bool{}
	b.Each(team, func(id key.ID, _ Conn) { seen[id] = true })
	if len(seen) != 3 || b.Len() != 3 {
		t.Fatalf("%d seen of %d", len(seen), b.Len())
	}
}

func TestConcurrentAttachLeavesOne(t *testing.T) {
	b := New()
	var team principal.TeamID
	lines := make([]*line, 50)
	detach := make([]func(), len(lines))
	var wg sync.WaitGroup
	for i := range lines {
		lines[i] = &line{}
		wg.Go(func() { detach[i], _ = b.Attach(team, key.ID{9}, lines[i]) })
	}
	wg.Wait()
	ended := 0
	for _, l := range lines {
		ended += l.ended
	}
	if ended != len(lines)-1 || b.Len() != 1 {
		t.Fatalf("%d ended, %d there", ended, b.Len())
	}
	for _, d := range detach {
		d()
	}
	if b.Len() != 0 {
		t.Fatal("one is left")
	}
}
