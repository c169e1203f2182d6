package live

import (
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

var now = time.Unix(1_700_000_000, 0)

func session(operator, agent byte) Session {
	return Session{ID: wire.NewSessionID(), Operator: key.ID{operator}, Agent: key.ID{agent}}
}

func of(operator byte) func(Session) refusal.Code {
	return func(s Session) refusal.Code {
		if s.Operator == (key.ID{operator}) {
			return refusal.KeyRevoked
		}
		return ""
	}
}

func TestEndNamesEachSessionOnce(t *testing.T) {
	var table Table
	a, b, other := session(1, 1), session(1, 2), session(2, 1)
	for _, s := range []Session{a, b, other} {
		table.Put(s, now.Add(time.Hour), now)
	}
	if cuts := table.End(now, of(1)); len(cuts) != 2 || cuts[0].Code != refusal.KeyRevoked {
		t.Fatalf("%+v", cuts)
	}
	if cuts := table.End(now, of(1)); len(cuts) != 0 {
		t.Fatalf("again: %+v", cuts)
	}
	table.Put(a, now.Add(2*time.Hour), now)
	if table.Ended(a.ID) != refusal.KeyRevoked || table.Ended(other.ID) != "" || table.Ended(wire.NewSessionID()) != "" {
		t.Fatal("ended")
	}
	table.Drop(a.ID)
	if table.Ended(a.ID) != "" {
		t.Fatal("dropped")
	}
}

func TestTableForgetsAndIsBounded(t *testing.T) {
	var table Table
	short, long := session(1, 1), session(1, 1)
	table.Put(short, now.Add(time.Minute), now)
	table.Put(long, now.Add(time.Minute), now)
	table.Put(long, now.Add(time.Hour), now) // renewed
	table.Put(long, now, now)                // never shorter
	if cuts := table.End(now.Add(time.Minute), of(1)); len(cuts) != 1 || cuts[0].ID != long.ID {
		t.Fatalf("%+v", cuts)
	}
	for range Max + 10 {
		table.Put(session(3, 1), now.Add(time.Hour), now)
	}
	if n := len(table.all); n != Max {
		t.Fatalf("%d sessions", n)
	}
	later := session(4, 1)
	table.Put(later, now.Add(3*time.Hour), now.Add(2*time.Hour))
	if cuts := table.End(now.Add(2*time.Hour), of(4)); len(cuts) != 1 || len(table.all) != 1 {
		t.Fatalf("%+v beside %d", cuts, len(table.all))
	}
}

func TestOneCutOfSeveralAtOnce(t *testing.T) {
	var table Table
	s := session(1, 1)
	table.Put(s, now.Add(time.Hour), now)
	var wg sync.WaitGroup
	var mu sync.Mutex
	cuts := 0
	for range 16 {
		wg.Go(func() {
			n := len(table.End(now, of(1)))
			mu.Lock()
			cuts += n
			mu.Unlock()
		})
	}
	wg.Wait()
	if cuts != 1 {
		t.Fatalf("%d cuts", cuts)
	}
}

// TestAUsedIDHidesNoSession: neither a second opening of one's own session nor an
// opening by somebody else makes it unknown to End.
func TestAUsedIDHidesNoSession(t *testing.T) {
	for name, second := range map[string]Session{"one's own": session(1, 1), "another operator's": session(2, 1)} {
		var table Table
		first := session(1, 1)
		second.ID = first.ID
		if !table.Put(first, now.Add(time.Hour), now) {
			t.Fatalf("%s: the first is not new", name)
		}
		if table.Put(second, now.Add(2*time.Hour), now) {
			t.Errorf("%s: the second is new, and its refusal would drop the first", name)
		}
		if cuts := table.End(now, of(1)); len(cuts) != 1 {
			t.Errorf("%s: %+v", name, cuts)
		}
	}
}
