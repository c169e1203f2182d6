package relay

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// TestM9ATakenOverPlaceEndsBetweenTwoMessages: whoever takes a place over, on
// whatever transport, may not end the old one while the loop of its pion instance is
// at work on a message of its: pion would go through its permissions while one is
// being added, and the process would end.
func TestM9ATakenOverPlaceEndsBetweenTwoMessages(t *testing.T) {
	s := serve(t, nil)
	f := newFront(s, nil, nil) // whose loop is this test
	a := &allocation{user: user{role: credential.Operator}, from: netip.MustParseAddrPort("192.0.2.7:1"), front: f}
	a.relayed = newRelayed(s, a)
	now := time.Now()
	if _, err := s.table.add(a, now.Add(time.Minute), now, now); err != nil {
		t.Fatal(err)
	}
	next := request{packet: packet{from: netip.MustParseAddrPort("192.0.2.7:2")}, issued: now.Add(time.Second)}
	next.name = credential.Name{Role: credential.Operator, Expires: now.Add(time.Minute)}
	if _, _, err := s.allocate(s.front, next); err != nil {
		t.Fatal(err)
	}
	select {
	case <-a.relayed.gone:
		t.Fatal("the place was ended under the loop")
	default:
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _, _ = f.ReadFrom(make([]byte, guard.MaxFrame))
	}()
	<-a.relayed.gone // the loop is between two messages
	f.in <- packet{frame: guard.NewMessage(guard.AllocateRequest, [12]byte{}), from: a.from}
	select {
	case <-read:
		t.Fatal("the next message came before pion had let go")
	case <-time.After(quiet):
	}
	_ = a.relayed.Close() // as pion's goroutine does
	<-read
}

// TestM9SweptPlacesEndBetweenTwoMessages: the same for places whose time is over.
func TestM9SweptPlacesEndBetweenTwoMessages(t *testing.T) {
	s := serve(t, nil)
	f := newFront(s, nil, nil)
	a := &allocation{from: netip.MustParseAddrPort("192.0.2.7:1"), front: f}
	a.relayed = newRelayed(s, a)
	now := time.Now()
	if _, err := s.table.add(a, now.Add(time.Minute), now, now); err != nil {
		t.Fatal(err)
	}
	s.closeAll([]*allocation{a}, evIdle)
	select {
	case <-a.relayed.gone:
		t.Fatal("the place was ended under the loop")
	default:
	}
	if n, _ := s.table.size(); n != 0 {
		t.Error("it still has its place")
	}
}

// TestShortLifetimesAreMadeTheDefault, so that no client chooses when pion's timer
// ends its allocation; and the relay ends it before that timer.
func TestShortLifetimesAreMadeTheDefault(t *testing.T) {
	s := serve(t, nil)
	oc, _ := mint(s)
	o := dialRaw(t, s, "udp", oc)
	o.challenge()
	lifetime := func(seconds uint32) stun.Setter {
		return attribute(stun.AttrLifetime, binary.BigEndian.AppendUint32(nil, seconds)...)
	}
	lives := func(method stun.Method, asked, want uint32, with ...stun.Setter) {
		t.Helper()
		res := o.exchange(o.signed(method, append(with, lifetime(asked))...), patience)
		got, err := res.Get(stun.AttrLifetime)
		if err != nil || binary.BigEndian.Uint32(got) != want {
			t.Errorf("%v for %d s: %x, %v", method, asked, got, err)
		}
	}
	lives(stun.MethodAllocate, 1, 600, transport())
	for asked, want := range map[uint32]uint32{1: 600, 599: 600, 600: 600, 3599: 3599, 1 << 31: 600} {
		lives(stun.MethodRefresh, asked, want)
	}
	lives(stun.MethodRefresh, 900, 900)
	a := s.table.all()[0]
	a.expires.Store(time.Now().Add(time.Hour).UnixNano())
	for in, want := range map[time.Duration]int{900*time.Second - 2*lapseEarly: 0, 900*time.Second - lapseEarly/2: 1} {
		a.active.Store(time.Now().Add(in).UnixNano())
		if _, lapsed, _ := s.table.sweep(time.Now().Add(in)); len(lapsed) != want {
			t.Errorf("in %v: %d have lapsed, want %d", in, len(lapsed), want)
		}
	}
}
