package shelf

import (
	"encoding/json"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tucdesk/tucdesk/agent/judge"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

// put puts a shell of operator 1 on the shelf.
func put(t *testing.T, table *Table, name string, limits policy.Limits) *Shell {
	t.Helper()
	n := Name{key.ID{1}, "web", name}
	if err := table.Reserve(n); err != nil {
		t.Fatal(err)
	}
	k := New(n, nil, judge.Answer{Decision: policy.Decision{Limits: limits}})
	table.Fill(k)
	return k
}

func ended(k *Shell) bool {
	select {
	case <-k.Cut():
		return true
	default:
		return false
	}
}

func TestShellThatNobodyJoinsEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := put(t, NewTable(), "a", policy.Limits{})
		time.Sleep(joinWithin)
		if synctest.Wait(); !ended(k) || k.Why() != refusal.Expired {
			t.Errorf("ended: %v, %q", ended(k), k.Why())
		}
	})
}

// Whoever is away has the policy's time to come back, whoever is there has that of the
// session, and a later decision counts.
func TestShellEndsWithItsLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := NewTable()
		k := put(t, table, "a", policy.Limits{})
		id := wire.SessionID{1}
		if _, ok := table.Joined(k, id, policy.Limits{Session: 8 * time.Hour, Idle: time.Hour}, time.Now()); !ok {
			t.Fatal("not joined")
		}
		time.Sleep(2 * time.Hour)
		if synctest.Wait(); ended(k) {
			t.Fatal("ended under its session")
		}
		table.Left(id, time.Now())
		time.Sleep(time.Hour - time.Second)
		if synctest.Wait(); ended(k) {
			t.Error("ended early")
		}
		time.Sleep(time.Second)
		if synctest.Wait(); !ended(k) {
			t.Error("idle for longer than it may be")
		}
	})
}

// The time of day goes on while the machine sleeps, and its timers do not.
func TestShellsOfASleepingMachineLapse(t *testing.T) {
	table := NewTable()
	short, long := put(t, table, "a", policy.Limits{Resume: time.Hour}), put(t, table, "b", policy.Limits{Session: 8 * time.Hour})
	defer func() { table.Forget(short); table.Forget(long) }()
	awake := func(d time.Duration) []*Shell { return table.Lapsed(time.Now().Round(0).Add(d)) }
	if list := awake(59 * time.Minute); len(list) != 0 {
		t.Errorf("%d before their time", len(list))
	}
	if list := awake(61 * time.Minute); len(list) != 1 || list[0] != short {
		t.Errorf("%d after an hour", len(list))
	}
	if list := awake(9 * time.Hour); len(list) != 2 {
		t.Errorf("%d after a night", len(list))
	}
}

// A list is marshalled when nobody holds the table any more, while sessions come and go.
func TestAListStaysAsItWas(t *testing.T) {
	table := NewTable()
	k, id := put(t, table, "a", policy.Limits{}), wire.SessionID{1}
	defer table.Forget(k)
	begun := k.Begun
	list := table.List(key.ID{1}, "web")
	var sessions sync.WaitGroup
	defer sessions.Wait()
	sessions.Go(func() {
		for i := range 100 {
			table.Joined(k, id, policy.Limits{}, time.Now())
			table.Left(id, begun.Add(time.Duration(i+1)*time.Minute))
		}
	})
	for range 100 {
		if one := list[0]; !one.Left.Equal(begun) {
			t.Fatalf("what was listed as left at %v was left at %v", begun, one.Left)
		}
		if _, err := json.Marshal(table.List(key.ID{1}, "web")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestH8OneOperatorsShellsAreBounded(t *testing.T) {
	table := NewTable()
	for i := range MaxPerOperator {
		defer table.Forget(put(t, table, string(rune('a'+i)), policy.Limits{}))
	}
	if err := table.Reserve(Name{key.ID{1}, "web", "more"}); refusal.Of(err) != refusal.TooMany {
		t.Errorf("one more: %v", err)
	}
	if err := table.Reserve(Name{key.ID{2}, "web", "more"}); err != nil {
		t.Errorf("somebody else's: %v", err)
	}
	if err := table.Reserve(Name{key.ID{1}, "web", "a"}); refusal.Of(err) != refusal.NameTaken {
		t.Errorf("the same again: %v", err)
	}
}

// A stopped agent takes its shells along, and whoever reads the log finds why.
func TestShellsEndWithTheirAgentAndSaySo(t *testing.T) {
	table := NewTable()
	k := put(t, table, "a", policy.Limits{})
	defer table.Forget(k)
	table.Close()
	if !ended(k) || k.Why() != refusal.AgentStopped {
		t.Errorf("ended: %v, %q", ended(k), k.Why())
	}
	if err := table.Reserve(Name{key.ID{1}, "web", "b"}); refusal.Of(err) != refusal.AgentStopped {
		t.Errorf("another one: %v", err)
	}
}
