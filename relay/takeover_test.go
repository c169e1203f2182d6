package relay

import (
	"bytes"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pion/stun"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// An end moves to another address, and to every other transport, while the other
// end sends without a pause.
func TestNewestAllocationTakesOverWhileDataFlows(t *testing.T) {
	s := serveAll(t, nil)
	oc, ac := mint(s)
	a := dialRaw(t, s, "udp", ac).join()
	stop := make(chan struct{})
	var sender sync.WaitGroup
	sender.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				_, _ = a.conn.Write(frame("tick"))
			}
		}
	})
	defer sender.Wait()
	defer close(stop)
	before := dialRaw(t, s, "udp", oc).join()
	before.hears("tick")
	for i, transport := range []string{"udp", "tls", "dtls", "ws", "tcp", "udp"} {
		next := dialVia(t, s, transport, oc)
		if i%2 == 1 { // a renewed credential of the same pair and role
			n, err := credential.Parse(oc.Username)
			if err != nil {
				t.Fatal(err)
			}
			next.cred = credential.Mint(secret(s), n.Pair, n.Role, time.Now(), time.Minute+time.Duration(i)*time.Second)
		}
		if got := next.allocate(); got != 0 {
			t.Fatalf("take-over by %s: error %d", transport, got)
		}
		next.hears("tick") // before it has bound its channel: it has the old one's
		if got := next.bind(); got != 0 {
			t.Fatalf("bind by %s: error %d", transport, got)
		}
		next.hears("tick")
		snap := s.Snapshot()
		if snap.Allocations != 2 || snap.Pairs != 1 || snap.Events["taken_over"] != uint64(i+1) {
			t.Fatalf("after %s: %+v", transport, snap)
		}
		// What the old place sends goes nowhere, and nothing is sent to it any more.
		dropped := s.Snapshot().Events["not_bound"]
		if _, err := before.conn.Write(frame("old")); err == nil && transport == "udp" && i == 0 {
			until(t, "the drop", func() bool { return s.Snapshot().Events["not_bound"] > dropped })
		}
		before = next
	}
	before.send(frame("to the agent"))
	a.hears("to the agent")
}

func TestStreamThatHasBeenTakenOverIsClosed(t *testing.T) {
	s := serveAll(t, nil)
	for _, transport := range []string{"tcp", "tls", "dtls", "ws"} {
		oc, _ := mint(s)
		old := dialVia(t, s, transport, oc).join()
		dialRaw(t, s, "udp", oc).join()
		old.conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := old.conn.Read(make([]byte, 2048)); err == nil {
			t.Errorf("%s: it lives", transport)
		}
	}
	until(t, "places to be given back", func() bool { return s.gate.Open() == 0 })
}

func TestM9TakeOverNeedsTheCredential(t *testing.T) {
	s := serve(t, func(c *Config) { c.Limits.ControlPerSecond = 10000 })
	oc, ac := mint(s)
	o, a := dialRaw(t, s, "udp", oc).join(), dialRaw(t, s, "udp", ac).join()
	wrong := oc
	wrong.Password = bytes.Repeat([]byte{7}, 32)
	stranger, _ := mint(s)
	role := oc
	role.Password = ac.Password
	for name, cred := range map[string]credential.Credential{"wrong password": wrong, "the other role's password": role} {
		thief := dialRaw(t, s, "udp", cred)
		if got := thief.allocate(); got != 400 {
			t.Errorf("%s: %d", name, got)
		}
		thief.send(frame("stolen"))
	}
	dialRaw(t, s, "udp", stranger).join().send(frame("stolen")) // of another pair
	if b := a.receive(quiet); b != nil {
		t.Errorf("the agent heard %x", b)
	}
	o.send(frame("mine"))
	a.hears("mine")
	if snap := s.Snapshot(); snap.Events["taken_over"] != 0 {
		t.Errorf("%v", snap.Events)
	}
}

// Who records an Allocate, on plain UDP, has all that it says. It proves nothing
// from another address, and nothing again from the same one.
func TestM9ARecordedRequestTakesNothingOver(t *testing.T) {
	s := serve(t, nil)
	oc, ac := mint(s)
	a := dialRaw(t, s, "udp", ac).join()
	victim := dialRaw(t, s, "udp", oc)
	victim.challenge()
	recorded := victim.signed(stun.MethodAllocate, transport())
	if got := code(victim.exchange(recorded, patience)); got != 0 {
		t.Fatal(got)
	}
	if got := victim.bind(); got != 0 {
		t.Fatal(got)
	}
	thief := dialRaw(t, s, "udp", oc)
	thief.challenge() // that the relay knows the address helps nothing
	for range 3 {
		if got := code(thief.exchange(recorded, patience)); got != 438 {
			t.Errorf("from another address: %d", got)
		}
	}
	// The client moves on; its old address is anybody's now.
	moved := dialRaw(t, s, "udp", oc).join()
	if got := code(victim.exchange(recorded, patience)); got != 438 {
		t.Errorf("again from the old address: %d", got)
	}
	moved.send(frame("still mine"))
	a.hears("still mine")
	// And after it has left for good.
	moved.exchange(moved.signed(stun.MethodRefresh, attribute(stun.AttrLifetime, 0, 0, 0, 0)), patience)
	until(t, "the allocation to end", func() bool { return s.Snapshot().Allocations == 1 })
	if got := code(victim.exchange(recorded, patience)); got != 438 {
		t.Errorf("after the end: %d", got)
	}
	if snap := s.Snapshot(); snap.Events["taken_over"] != 1 || snap.Events["replayed"] != 2 {
		t.Errorf("%v", snap.Events)
	}
}

// Of several dials side by side the first that is answered stays; the others are
// told to ask again, which is up to them.
func TestOfSeveralDialsAtOnceTheFirstStays(t *testing.T) {
	s := serve(t, nil)
	oc, _ := mint(s)
	first, second := dialRaw(t, s, "udp", oc), dialRaw(t, s, "tcp", oc)
	second.challenge()
	if got := first.allocate(); got != 0 {
		t.Fatal(got)
	}
	res := second.exchange(second.signed(stun.MethodAllocate, transport()), patience)
	if got := code(res); got != 438 {
		t.Fatalf("the second: %d", got)
	}
	if got := first.bind(); got != 0 {
		t.Fatalf("the first lost its place: %d", got)
	}
	if err := second.nonce.GetFrom(res); err != nil {
		t.Fatal(err)
	}
	if got := code(second.exchange(second.signed(stun.MethodAllocate, transport()), patience)); got != 0 {
		t.Errorf("the second, asking again: %d", got)
	}
}

// An answer that was lost is given again: it must not be taken for a replay.
func TestRetransmittedAllocateIsAnsweredAgain(t *testing.T) {
	s := serve(t, nil)
	oc, _ := mint(s)
	o := dialRaw(t, s, "udp", oc)
	o.challenge()
	m := o.signed(stun.MethodAllocate, transport())
	for range 3 {
		if got := code(o.exchange(m, patience)); got != 0 {
			t.Fatal(got)
		}
	}
	if snap := s.Snapshot(); snap.Allocations != 1 || snap.Events["allocated"] != 1 {
		t.Errorf("%+v", snap)
	}
}

func TestTakeOversAreLimited(t *testing.T) {
	s := serve(t, func(c *Config) { c.Limits.ControlPerSecond = 10000 })
	oc, _ := mint(s)
	var last *raw
	for i := range 1 + takeOverBurst {
		last = dialRaw(t, s, "udp", oc)
		if got := last.allocate(); got != 0 {
			t.Fatalf("allocation %d: %d", i, got)
		}
	}
	if got := dialRaw(t, s, "udp", oc).allocate(); got != 508 {
		t.Errorf("one more: %d", got)
	}
	if got := last.bind(); got != 0 {
		t.Errorf("the last one lost its place: %d", got)
	}
	if snap := s.Snapshot(); snap.Events["take_overs"] != 1 || snap.Events["taken_over"] != takeOverBurst {
		t.Errorf("%v", snap.Events)
	}
}

func TestTakeOversRecoverAndQuotasDoNot(t *testing.T) {
	tab := newTable(Limits{Allocations: 2, AllocationsPerSource: 2})
	u, now, until := user{role: credential.Operator}, time.Unix(1000, 0), time.Unix(5000, 0)
	place := func(port uint16) *allocation {
		a := &allocation{user: u, from: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.7"), port)}
		a.relayed = newRelayed(&Server{table: tab}, a)
		return a
	}
	add := func(a *allocation) error {
		_, err := tab.add(a, until, now, now)
		now = now.Add(time.Nanosecond)
		return err
	}
	for i := range uint16(1 + takeOverBurst) {
		if err := add(place(i + 1)); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := add(place(100)); err != errTakeOvers {
		t.Fatal(err)
	}
	now = now.Add(time.Duration(3 / takeOverRate * float64(time.Second)))
	for i := range uint16(3) {
		if err := add(place(200 + i)); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := add(place(300)); err != errTakeOvers {
		t.Fatal(err)
	}
	if n, _ := tab.size(); n != 1 || len(tab.byTuple) != 1 || tab.bySite[netip.MustParsePrefix("192.0.2.0/24")] != 1 || len(tab.pasts) != 1 {
		t.Errorf("%d allocations, %v, %v, %d pasts", n, tab.byTuple, tab.bySite, len(tab.pasts))
	}
	tab.byUser[u].sent.Store(77)
	now = now.Add(time.Minute)
	next := place(400)
	if err := add(next); err != nil || next.sent.Load() != 77 {
		t.Errorf("%v, %d bytes", err, next.sent.Load())
	}
	if !tab.remove(next) || tab.remove(next) {
		t.Error("remove")
	}
	again := place(500)
	if err := add(again); err != nil || again.sent.Load() != 77 {
		t.Errorf("after an end: %v, %d bytes", err, again.sent.Load())
	}
	tab.remove(again)
	if tab.sweep(until.Add(time.Second)); len(tab.pasts) != 0 {
		t.Error("a user is remembered for longer than its credential lives")
	}
}

func TestM14RateStopsAFasterClient(t *testing.T) {
	s := serve(t, func(c *Config) { c.Limits.BytesPerSecond = 1000 })
	oc, ac := mint(s)
	o, a := dialRaw(t, s, "udp", oc).join(), dialRaw(t, s, "udp", ac).join()
	until(t, "the limit", func() bool {
		o.send(frame(repeat('x', 1000)))
		return s.Snapshot().Events["byte_rate"] > 0
	})
	if n := s.Snapshot().Bytes; n < rateSeconds*1000 || n > (rateSeconds+1+uint64(patience/time.Second))*1000 {
		t.Errorf("%d bytes passed", n)
	}
	a.send(frame("own data")) // the other side has its own
	o.hears("own data")
}

func TestRateRefills(t *testing.T) {
	var r rate
	now := time.Unix(1000, 0)
	if !r.take(1000, 100, now) || r.take(1, 100, now) || r.take(101, 100, now.Add(time.Second)) || !r.take(100, 100, now.Add(time.Second)) {
		t.Error("a bucket of ten seconds")
	}
	if r.take(1, 100, now) || !r.take(1000, 100, now.Add(time.Hour)) || r.take(1, 100, now.Add(time.Hour)) {
		t.Error("a clock that goes back, and a full bucket")
	}
}

func TestNoncesAreForOneClientAndATime(t *testing.T) {
	n, now := newNonces(), time.Unix(1e9, 12345)
	from := netip.MustParseAddrPort("192.0.2.1:1000")
	good := n.issue(from, now)
	if issued, ok := n.check(good, from, now.Add(nonceLife-1)); !ok || !issued.Equal(now) {
		t.Fatalf("%v, %v", issued, ok)
	}
	mapped := netip.AddrPortFrom(netip.MustParseAddr("::ffff:192.0.2.1"), 1000)
	if _, ok := n.check(good, mapped, now); !ok {
		t.Error("the same address in its other form")
	}
	for name, ok := range map[string]bool{
		"too old":      second(n.check(good, from, now.Add(nonceLife))),
		"another port": second(n.check(good, netip.AddrPortFrom(from.Addr(), 1001), now)),
		"another host": second(n.check(good, netip.MustParseAddrPort("192.0.2.2:1000"), now)),
		"another key":  second(newNonces().check(good, from, now)),
		"none":         second(n.check(nil, from, now)),
		"longer":       second(n.check(append(bytes.Clone(good), 'A'), from, now)),
	} {
		if ok {
			t.Errorf("%s: taken", name)
		}
	}
	for i := range good {
		b := bytes.Clone(good)
		if b[i]++; second(n.check(b, from, now)) {
			t.Errorf("byte %d: taken", i)
		}
	}
	if len(good) > 80 {
		t.Error("longer than pion's: the first answer would outgrow its credit")
	}
}

func second[T any](_ T, ok bool) bool { return ok }

// pion's nonces must never reach a client: they are not bound to it.
func TestClientsSeeOurNonceOnly(t *testing.T) {
	s := serve(t, nil)
	oc, _ := mint(s)
	for _, network := range []string{"udp", "tcp"} {
		c := dialRaw(t, s, network, oc)
		c.challenge()
		from := netip.MustParseAddrPort(c.conn.LocalAddr().String())
		if _, ok := s.nonces.check(c.nonce, from, time.Now()); !ok {
			t.Errorf("%s: %q", network, c.nonce)
		}
	}
}

func TestReplacedKeepsEverythingElse(t *testing.T) {
	s := serve(t, nil)
	oc, _ := mint(s)
	c := dialRaw(t, s, "udp", oc)
	c.challenge()
	m := c.signed(stun.MethodAllocate, transport(), attribute(stun.AttrLifetime, 0, 0, 1, 0))
	got := guard.Replaced(m.Raw, guard.AttrNonce, []byte("another value"))
	d := &stun.Message{Raw: got}
	if err := d.Decode(); err != nil {
		t.Fatal(err)
	}
	if len(d.Attributes) != len(m.Attributes)-1 || d.Contains(stun.AttrMessageIntegrity) || d.TransactionID != m.TransactionID || d.Type != m.Type {
		t.Fatalf("%v became %v", m.Attributes, d.Attributes)
	}
	for i, a := range d.Attributes {
		want := m.Attributes[i].Value
		if a.Type == stun.AttrNonce {
			want = []byte("another value")
		}
		if a.Type != m.Attributes[i].Type || !bytes.Equal(a.Value, want) {
			t.Errorf("attribute %d: %v", i, a)
		}
	}
}
