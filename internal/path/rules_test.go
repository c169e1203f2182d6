package path

import (
	"net/netip"
	"testing"
	"time"
)

func TestNames(t *testing.T) {
	for v, want := range map[Via]string{
		{}: "none", {Relay: 2}: "relay 2", {Addr: addr("192.0.2.1:4242")}: "direct 192.0.2.1:4242",
		{Socket: 1, Addr: addr("[2001:db8::1]:1")}: "direct [2001:db8::1]:1",
	} {
		if v.String() != want {
			t.Errorf("%q, want %q", v.String(), want)
		}
	}
	for k, want := range map[Kind]string{Host: "host", Peer: "peer", 0: "relay", 9: "kind 9"} {
		if k.String() != want {
			t.Errorf("%q, want %q", k.String(), want)
		}
	}
	if Gone.String() != "gone" || Doubtful.String() != "doubtful" || Good.String() != "good" {
		t.Error("states have other names")
	}
}

// lone is a manager whose other end is the test.
type lone struct {
	*Manager
	t   *testing.T
	now time.Time
}

func newLone(t *testing.T, operator bool) *lone {
	n := uint64(0)
	return &lone{New(Config{Operator: operator, Token: func() uint64 { n++; return n }, Now: epoch}), t, epoch}
}

// poll returns what goes out by each path, by type.
func (l *lone) poll() map[Via]map[byte][]byte {
	out := map[Via]map[byte][]byte{}
	for _, p := range l.Poll(l.now) {
		if out[p.Via] == nil {
			out[p.Via] = map[byte][]byte{}
		}
		out[p.Via][p.Type] = p.Body
	}
	return out
}

// answer answers every challenge that is due, after a round trip.
func (l *lone) answer(rtt time.Duration) {
	sent := l.poll()
	l.now = l.now.Add(rtt)
	for v, frames := range sent {
		if token, ok := frames[Challenge]; ok {
			l.from(v, Response, append(token, make([]byte, addrPortSize)...))
		}
	}
}

// from lets a path frame arrive.
func (l *lone) from(v Via, typ byte, body []byte) {
	l.t.Helper()
	l.Received(v, datagramSize(len(body)), true, false, l.now)
	if err := l.Frame(v, typ, body, l.now); err != nil {
		l.t.Fatal(err)
	}
}

func TestEachFamilyHasItsSocket(t *testing.T) {
	l := newLone(t, true)
	l.SetRelay(Via{Relay: 1}, true, l.now)
	l.SetLocal([]Candidate{{Host, addr("192.0.2.7:1")}}, l.now) // no IPv6 here
	l.from(Via{Relay: 1}, Candidates, list{1, []Candidate{{Host, addr("192.0.2.1:1")}, {Host, addr("[2001:db8::1]:1")}}}.append())
	v4, v6 := Via{Addr: addr("192.0.2.1:1")}, Via{Socket: 1, Addr: addr("[2001:db8::1]:1")}
	sent := l.poll()
	if sent[v4][Challenge] == nil || sent[v6][Challenge] != nil {
		t.Errorf("without IPv6: %v", sent)
	}
	l.now = l.now.Add(time.Second)
	l.SetLocal([]Candidate{{Host, addr("192.0.2.7:1")}, {Host, addr("[2001:db8::7]:1")}}, l.now)
	if sent = l.poll(); sent[v6][Challenge] == nil {
		t.Errorf("with IPv6: %v", sent)
	}
}

func TestCandidatesAreRepeatedUntilSeen(t *testing.T) {
	l := newLone(t, false)
	v := Via{Relay: 1}
	l.SetRelay(v, true, l.now)
	l.SetLocal([]Candidate{{Host, addr("192.0.2.7:1")}}, l.now)
	l.answer(0)
	times := 0
	for range 60 {
		l.now = l.now.Add(100 * time.Millisecond)
		if l.poll()[v][Candidates] != nil {
			times++
		}
	}
	if times < 4 || times > announceTries {
		t.Errorf("repeated %d times in 6 s", times)
	}
	l.from(v, CandidatesSeen, appendSeen(1))
	l.SetLocal([]Candidate{{Host, addr("192.0.2.7:1")}}, l.now) // no change, no new list
	for range 60 {
		l.now = l.now.Add(100 * time.Millisecond)
		if l.poll()[v][Candidates] != nil {
			t.Fatal("repeated although the peer has it")
		}
	}
	l.SetLocal([]Candidate{{Host, addr("192.0.2.8:1")}}, l.now)
	got, err := parseList(l.poll()[v][Candidates])
	if err != nil || got.sequence != 2 || len(got.candidates) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestOlderListIsIgnored(t *testing.T) {
	l := newLone(t, false)
	l.SetRelay(Via{Relay: 1}, true, l.now)
	l.from(Via{Relay: 1}, Candidates, list{2, []Candidate{{Host, addr("192.0.2.2:1")}}}.append())
	l.from(Via{Relay: 1}, Candidates, list{1, []Candidate{{Host, addr("192.0.2.1:1")}}}.append())
	if l.find(Via{Addr: addr("192.0.2.2:1")}) == nil || l.find(Via{Addr: addr("192.0.2.1:1")}) != nil {
		t.Error("the list that was overtaken is in force")
	}
	if seen := l.poll()[Via{Relay: 1}][CandidatesSeen]; string(seen) != string(appendSeen(2)) {
		t.Errorf("seen %x", seen)
	}
}

func TestOnlyTheBestOfTooManyCandidatesAreAnnounced(t *testing.T) {
	l := newLone(t, false)
	var own []Candidate
	for i := range 20 {
		own = append(own, Candidate{Host, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 1)})
	}
	own = append(own, own[0], Candidate{Reflexive, addr("203.0.113.1:1")}, Candidate{Configured, addr("203.0.113.2:1")}, Candidate{Peer, addr("203.0.113.3:1")},
		Candidate{Host, addr("192.0.2.99:0")}, Candidate{Host, netip.AddrPort{}}, Candidate{Host, addr("[::ffff:192.0.2.1]:1")})
	l.SetLocal(own, l.now)
	got := l.local.candidates
	if len(got) != MaxCandidates || got[0].Kind != Configured || got[1].Kind != Reflexive {
		t.Errorf("%v", got)
	}
}

// TestPeerThatKnowsNoChallenges skips every path frame, as it may: the session
// stays on its relays, whose death is noticed by silence.
func TestPeerThatKnowsNoChallenges(t *testing.T) {
	l := newLone(t, true)
	l.SetRelay(Via{Relay: 1}, true, l.now)
	for range 300 {
		l.now = l.now.Add(100 * time.Millisecond)
		l.Received(Via{Relay: 1}, 96, true, true, l.now)
		l.Sent(Via{Relay: 1}, 96, l.now)
		l.poll()
		if v, _, s := l.Best(l.now); v != (Via{Relay: 1}) || s == Gone {
			t.Fatalf("%v, %v", v, s)
		}
	}
	l.Sent(Via{Relay: 1}, 96, l.now)
	for range deadUnknown / time.Second {
		l.now = l.now.Add(time.Second)
		l.poll()
	}
	if _, _, s := l.Best(l.now); s != Gone {
		t.Errorf("%v after silence", s)
	}
}

// TestGoneOffersNothing: a direct address that has been silent may belong to
// somebody else.
func TestGoneOffersNothing(t *testing.T) {
	w := cone(t, 50)
	w.begin(true)
	w.bothDirect(3 * time.Second)
	stop := w.op.stream(50*time.Millisecond, 200)
	w.run(time.Second)
	w.direct.cut, w.relays[1].cut, w.relays[2].cut = true, true, true
	w.run(10 * time.Second)
	first, second, state := w.op.m.Best(w.now)
	if state != Gone || first != (Via{}) || second != (Via{}) {
		t.Errorf("%v, %v, %v", first, second, state)
	}
	stop()
}

func TestStatusSaysWhy(t *testing.T) {
	w := cone(t, 51)
	w.begin(true)
	w.bothDirect(3 * time.Second)
	w.run(time.Minute)
	all := w.op.m.Status()
	if s := all[0]; !s.Chosen || !s.Live || !s.Validated || s.Why != "direct" || s.Kind != Reflexive ||
		s.SRTT != 40*time.Millisecond || s.MinRTT != s.SRTT || s.Observed.Addr() != w.op.nat.outer || s.In == 0 || s.Out == 0 || s.Heard.IsZero() {
		t.Errorf("%+v", s)
	}
	why := map[string]string{}
	for _, s := range all[1:] {
		why[s.Via.String()] = s.Why
		if s.Chosen {
			t.Errorf("two are chosen")
		}
	}
	if why["relay 1"] != "a relay; there is a direct path" || why["direct 10.9.0.2:4002"] != "silent" {
		t.Errorf("%v", why)
	}
	w.op.m.SetRelay(Via{Relay: 1}, false, w.now)
	for _, s := range w.op.m.Status() {
		if s.Via.Relay == 1 && (s.Up || s.Live || s.Why != "down") {
			t.Errorf("%+v", s)
		}
	}
}

func TestBucket(t *testing.T) {
	var b bucket
	now := epoch
	for range 3 {
		if !b.take(now, 3, time.Second) {
			t.Fatal("the burst is refused")
		}
	}
	if b.take(now, 3, time.Second) || b.take(now.Add(999*time.Millisecond), 3, time.Second) {
		t.Error("more than the burst")
	}
	if now = now.Add(time.Second); !b.take(now, 3, time.Second) || b.take(now, 3, time.Second) {
		t.Error("not one more after the period")
	}
}

// TestNothingOlderThanAPauseCountsAfterIt: what waited in sockets while this
// process was stopped would be a round trip of minutes for the transport.
func TestNothingOlderThanAPauseCountsAfterIt(t *testing.T) {
	l, v := newLone(t, true), Via{Relay: 1}
	l.SetRelay(v, true, l.now)
	for range 2 { // the second challenge is a full one
		l.answer(time.Millisecond)
		l.now = l.now.Add(probeFirst)
	}
	l.Sent(v, 100, l.now)
	if l.Waking(l.now) {
		t.Fatal("waking without a pause")
	}
	l.now = l.now.Add(5 * time.Minute)
	if !l.Waking(l.now) {
		t.Fatal("the pause was not noticed")
	}
	l.Received(v, 1200, true, true, l.now)
	if !l.Waking(l.now) {
		t.Error("something from before the pause ended it")
	}
	l.answer(time.Millisecond)
	if !l.Waking(l.now) || l.Waking(l.now.Add(wakeLinger)) {
		t.Error("it ends at another time than shortly after the first answer")
	}
}

// TestPeerWithoutAnswersIsNotWaitedForForever.
func TestPeerWithoutAnswersIsNotWaitedForForever(t *testing.T) {
	l, v := newLone(t, true), Via{Relay: 1}
	l.SetRelay(v, true, l.now)
	l.poll()
	l.Wake(l.now)
	l.now = l.now.Add(time.Minute)
	if !l.Waking(l.now) {
		t.Error("waking ended although nothing was heard")
	}
	l.poll()
	l.Received(v, 100, true, true, l.now)
	for range 3 {
		if !l.Waking(l.now) {
			t.Error("waking ended at once")
		}
		l.now = l.now.Add(wakeMost / 3)
		l.poll()
	}
	if l.Waking(l.now) {
		t.Error("waking does not end after something was heard")
	}
}

func TestUnansweredChallengesAreCounted(t *testing.T) {
	l, v := newLone(t, true), Via{Relay: 1}
	l.SetRelay(v, true, l.now)
	for range 2 { // the second one is long
		l.answer(time.Millisecond)
		l.now = l.now.Add(probeFirst)
	}
	before := l.Status()[0]
	l.Ask(l.now)
	l.poll() // lost
	l.now = l.now.Add(time.Second)
	l.answer(7 * time.Millisecond)
	after := l.Status()[0]
	if n := after.Challenges - before.Challenges; n != 2 || after.Unanswered-before.Unanswered != 1 {
		t.Errorf("%d challenges, %d unanswered", n, after.Unanswered-before.Unanswered)
	}
	if _, trip := l.Measured(); trip != 7*time.Millisecond {
		t.Errorf("the last round trip is %v", trip)
	}
}

// TestANetworkThatComesBackIsNoticed, the sooner the shorter it was away: most are
// away for seconds, and somebody waits in front of a screen.
func TestANetworkThatComesBackIsNoticed(t *testing.T) {
	back := func(away time.Duration, way func(*world) *link) {
		w := cone(t, 19)
		w.begin(true)
		w.bothDirect(3 * time.Second)
		w.op.stream(100*time.Millisecond, 200)
		w.relays[1].cut, w.relays[2].cut, w.direct.cut = true, true, true
		w.run(away)
		way(w).cut = false
		took, ok := w.runUntil(func() bool {
			_, a := w.op.best()
			_, b := w.ag.best()
			return a == Good && b == Good
		}, time.Minute)
		if limit := max(goneGap, away/gonePart) + 300*time.Millisecond; !ok || took > limit {
			t.Errorf("back %t %v after %v", ok, took, away)
		}
	}
	for away := 5 * time.Second; away < 5*time.Minute; away += away / 7 {
		back(away, func(w *world) *link { return w.relays[2] })
	}
	for away := 5 * time.Second; away < 12*time.Second; away += time.Second / 3 {
		back(away, func(w *world) *link { return &w.direct })
	}
}

// TestANetworkThatGoesAgainAndAgainIsNoticed: what may be sent to the address of
// the direct path does not run out by that.
func TestANetworkThatGoesAgainAndAgainIsNoticed(t *testing.T) {
	w := cone(t, 20)
	w.begin(true)
	w.bothDirect(3 * time.Second)
	w.op.stream(100*time.Millisecond, 200)
	w.relays[1].cut, w.relays[2].cut = true, true
	for i := range 20 {
		w.direct.cut = true
		w.run(10 * time.Second)
		w.direct.cut = false
		if took, ok := w.runUntil(func() bool { return w.op.isDirect() && w.ag.isDirect() }, time.Minute); !ok || took > goneGap+300*time.Millisecond {
			t.Errorf("outage %d: back %t after %v", i, ok, took)
		}
		w.run(time.Second)
	}
	w.checkAmplification(t)
}

// TestNothingLongGoesOutAfterASleep: a laptop wakes in another network, and the peer's
// address is the same.
func TestNothingLongGoesOutAfterASleep(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	m := New(Config{Operator: true, Token: func() uint64 { return 1 }, Now: now})
	p := m.add(Via{Addr: netip.MustParseAddrPort("192.0.2.1:9")}, Host)
	p.up, p.proven, p.fits, p.heard, p.answered, p.pmtu[0].carried, p.pmtu[1].carried = true, true, true, now, now, true, true
	m.best, m.state = p, Good
	if m.DatagramSize() != Large {
		t.Fatal("the path carries nothing long")
	}
	m.Wake(now.Add(time.Second))
	if m.DatagramSize() != Size {
		t.Error("long datagrams go out by a path that may have become another")
	}
}

// TestABlackHoleIsBelievedLessEachTime: routes of different MTUs, or somebody on the path,
// let probes pass and then no data. Each time costs the data a pause, so the next probe
// waits twice as long, until a size has served well; what a sleep made doubtful does not
// count.
func TestABlackHoleIsBelievedLessEachTime(t *testing.T) {
	var m pmtu
	s := &m[0]
	now := time.Unix(1_000_000, 0)
	answer := func() {
		t.Helper()
		if now = s.next; !s.note(probeEach, now) {
			t.Fatal("the next probe is not due")
		}
		s.ask(7, now)
		if !m.answered(7, 0, now) || m.size() != Wide {
			t.Fatal("the answer was not taken")
		}
	}
	s.next = now
	for _, want := range []time.Duration{1, 2, 4, 8} {
		answer()
		m.fail(now)
		if got := s.next.Sub(now); got != want*raiseFirst || m.size() != Size {
			t.Errorf("the next probe is due after %v, want %v", got, want*raiseFirst)
		}
	}
	answer()
	m.forget(now)
	if got := s.next.Sub(now); got != raiseFirst {
		t.Errorf("after a sleep it is due after %v", got)
	}
	answer()
	now = now.Add(servedWell)
	m.fail(now)
	if got := s.next.Sub(now); got != raiseFirst {
		t.Errorf("after good service it is due after %v", got)
	}
	for range 30 {
		answer()
		m.fail(now)
	}
	if got := s.next.Sub(now); got != raiseMost {
		t.Errorf("at last it is due after %v", got)
	}
}
