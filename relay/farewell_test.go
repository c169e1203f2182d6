package relay

import (
	"testing"

	"github.com/pion/stun"
)

// TestM9ARecordedFarewellEndsNoLaterAllocation: the request that ended one place is
// sent again from the same five-tuple when a new place is there. It is asked for a
// newer challenge, and the new place stays.
func TestM9ARecordedFarewellEndsNoLaterAllocation(t *testing.T) {
	s := serve(t, nil)
	oc, ac := mint(s)
	a := dialRaw(t, s, "udp", ac).join()
	o := dialRaw(t, s, "udp", oc).join()
	bye := o.signed(stun.MethodRefresh, attribute(stun.AttrLifetime, 0, 0, 0, 0))
	if got := code(o.exchange(bye, patience)); got != 0 {
		t.Fatalf("the farewell itself got %d", got)
	}
	until(t, "the place to be free", func() bool { return s.Snapshot().Allocations == 1 })
	o.challenge()
	o.join()
	if got := code(o.exchange(bye, patience)); got != 438 {
		t.Errorf("the recorded one got %d", got)
	}
	o.send(frame("still here"))
	a.hears("still here")
	if n := s.Snapshot().Allocations; n != 2 {
		t.Errorf("%d allocations", n)
	}
}
