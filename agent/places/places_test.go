package places

import (
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

var ann, bob, eve = key.ID{1}, key.ID{2}, key.ID{3}

// take takes n places, which there have to be.
func take(t *testing.T, p *Places, operator key.ID, n int) {
	t.Helper()
	for i := range n {
		if err := p.Take(operator); err != nil {
			t.Fatalf("place %d: %v", i, err)
		}
	}
}

// full says which bound keeps an operator out, for the one who asks.
func full(t *testing.T, p *Places, operator key.ID, want string) {
	t.Helper()
	taken := p.Taken()
	for what, err := range map[string]error{"room": p.Room(operator), "take": p.Take(operator)} {
		if refusal.Of(err) != refusal.TooMany || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	if p.Taken() != taken {
		t.Errorf("%d are taken after a refusal, %d before", p.Taken(), taken)
	}
}

func TestH8OneOperatorLeavesPlacesToOthers(t *testing.T) {
	p := New("lamps", 5, 3)
	take(t, p, ann, 3)
	full(t, p, ann, "at most 3 lamps of one operator")
	take(t, p, bob, 2)
	full(t, p, eve, "at most 5 lamps at once")
	full(t, p, ann, "at most 5 lamps at once")
}

func TestAPlaceGivenBackIsFreeForItsOperatorAndForOthers(t *testing.T) {
	p := New("lamps", 3, 2)
	take(t, p, ann, 2)
	take(t, p, bob, 1)
	p.Give(ann)
	take(t, p, eve, 1)
	p.Give(bob)
	take(t, p, ann, 1)
	full(t, p, ann, "at most 3")
	if p.Taken() != 3 {
		t.Errorf("%d are taken", p.Taken())
	}
}

// What an agent finds at its start counts although it is too much, and keeps everybody
// out until enough of it is gone.
func TestWhatIsThereCountsBeyondTheBounds(t *testing.T) {
	p := New("lamps", 3, 2)
	for range 4 {
		p.Count(ann)
	}
	full(t, p, bob, "at most 3")
	p.Give(ann)
	full(t, p, bob, "at most 3")
	p.Give(ann)
	full(t, p, ann, "of one operator")
	take(t, p, bob, 1)
}

// Nothing of an operator stays who has nothing: whoever makes keys would fill the memory.
func TestH8OperatorsWithoutPlacesAreForgotten(t *testing.T) {
	p := New("lamps", 2, 1)
	for i := range 1000 {
		id := key.ID{byte(i), byte(i >> 8)}
		take(t, p, id, 1)
		p.Give(id)
		_ = p.Room(key.ID{9, byte(i)})
	}
	if len(p.of) != 0 || p.Taken() != 0 {
		t.Errorf("%d operators are remembered, %d places taken", len(p.of), p.Taken())
	}
}
