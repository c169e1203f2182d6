package team

import (
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/identity"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
)

// A sweep looks at a team when its next request expires and not before, whatever
// later ones were noted meanwhile, and at a team that it knows nothing of at once.
func TestDueIsTheEarliestAndIsTakenOnce(t *testing.T) {
	now := time.Now()
	fresh := (&Teams{Keys: new(identity.Keys)}).adopt(principal.TeamID{})
	if !fresh.Due.Take(now) || fresh.Due.Take(now) {
		t.Error("an unknown team is looked at once")
	}
	var d Due
	if d.Take(now) {
		t.Error("nothing waits")
	}
	for _, in := range []time.Duration{time.Minute, time.Second, time.Hour} {
		d.Note(wire.At(now.Add(in)))
	}
	if d.Take(now) || !d.Take(now.Add(2*time.Second)) || d.Take(now.Add(2*time.Hour)) {
		t.Error("not the earliest, or not once")
	}
}
