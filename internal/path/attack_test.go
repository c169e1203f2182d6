package path

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

var victim = addr("198.51.100.66:53")

// streaming is a session on a direct path with data in both directions.
func streaming(t *testing.T, seed uint64) *world {
	w := cone(t, seed)
	w.begin(true)
	w.bothDirect(3 * time.Second)
	w.op.stream(10*time.Millisecond, 300)
	w.ag.stream(10*time.Millisecond, 300)
	w.run(3 * time.Second)
	return w
}

// TestA3CopiedDatagramsCannotSteer: somebody sees all datagrams to the agent and
// sends each from a victim's address before it arrives by itself.
func TestA3CopiedDatagramsCannotSteer(t *testing.T) {
	w := streaming(t, 30)
	began := w.now
	w.deliver = func(to *host, d *datagram) bool {
		if to == w.ag && !d.via.Relayed() {
			c := *d
			c.via = Via{Addr: victim}
			to.take(&c)
		}
		return true
	}
	relayed := 0
	w.ag.via = func(v Via) {
		if v.Addr == victim {
			t.Error("data goes to the victim")
		}
		if v.Relayed() {
			relayed++
		}
	}
	const long = 30 * time.Second
	w.run(long)
	got := w.ag.account(victim)
	t.Logf("the victim got %d bytes in %d challenges, %d datagrams went by a relay as well", got.out, got.challenges, relayed)
	if got.answered || got.out > amplification*got.in || got.out > 100*96 {
		t.Errorf("the victim got %d bytes", got.out)
	}
	if g := max(w.ag.gap(began), w.op.gap(began)); g > 100*time.Millisecond {
		t.Errorf("pause of %v", g)
	}
	if v, s := w.ag.best(); v.Relayed() || v.Addr == victim || s == Gone {
		t.Errorf("the agent was driven to %v, %v%s", v, s, w.ag.describe())
	}
	w.checkAmplification(t)
}

// TestA5HeldBackDatagramStartsNoCheck: what is not the newest shows nothing about
// where the peer is now.
func TestA5HeldBackDatagramStartsNoCheck(t *testing.T) {
	w := streaming(t, 31)
	paths := len(w.ag.m.paths)
	for range 100 {
		w.ag.m.Received(Via{Addr: victim}, 1248, false, true, w.now)
		w.ag.arm()
		w.run(20 * time.Millisecond)
	}
	if got := w.ag.account(victim); got.out != 0 || len(w.ag.m.paths) != paths {
		t.Errorf("the victim got %d bytes", got.out)
	}
}

// TestA4OvertakenChallengeIsChecked: under load the first challenge from a new
// address is seldom the newest datagram. It costs a victim no more than 3 times
// its own bytes.
func TestA4OvertakenChallengeIsChecked(t *testing.T) {
	w := streaming(t, 32)
	w.ag.m.Received(Via{Addr: victim}, 96, false, false, w.now)
	if err := w.ag.m.Frame(Via{Addr: victim}, Challenge, appendChallenge(7), w.now); err != nil {
		t.Fatal(err)
	}
	w.ag.account(victim).in += 96
	w.ag.arm()
	w.run(time.Minute)
	if got := w.ag.account(victim); got.challenges == 0 || got.out > amplification*96 {
		t.Errorf("%d challenges, %d bytes", got.challenges, got.out)
	}
	other := Via{Addr: addr("198.51.100.67:53")}
	if err := w.ag.m.Frame(other, Challenge, appendChallenge(8), w.now); err != nil {
		t.Fatal(err)
	}
	w.ag.poll()
	if got := w.ag.account(other.Addr); got.out != 0 {
		t.Error("answers a challenge that was in no datagram")
	}
}

// TestA10ForeignTokensValidateNothing: an answer counts only for a token that went
// out by the path.
func TestA10ForeignTokensValidateNothing(t *testing.T) {
	w := newWorld(t, 33)
	w.begin(true)
	v := Via{Addr: victim}
	w.ag.m.Received(v, 96, true, false, w.now)
	for token := range uint64(1000) {
		if err := w.ag.m.Frame(v, Response, response{token: token}.append(), w.now); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range w.ag.m.Status() {
		if s.Validated {
			t.Errorf("%v is validated", s.Via)
		}
	}
}

func TestAnswerAfterItsTimeDoesNotCount(t *testing.T) {
	m := New(Config{Token: func() uint64 { return 9 }, Now: epoch})
	m.SetRelay(Via{Relay: 1}, true, epoch)
	if p := m.Poll(epoch); len(p) != 1 || p[0].Type != Challenge {
		t.Fatalf("%+v", p)
	}
	if err := m.Frame(Via{Relay: 1}, Response, response{token: 9}.append(), epoch.Add(tokenLife)); err != nil {
		t.Fatal(err)
	}
	if m.Status()[0].Validated {
		t.Error("a late answer counts")
	}
}

// TestM2NoProbeToForbiddenAddresses, in every form.
func TestM2NoProbeToForbiddenAddresses(t *testing.T) {
	forbidden := []string{
		"0.0.0.0:9", "0.1.2.3:9", "127.0.0.1:9", "127.255.0.1:9", "169.254.169.254:80", "224.0.0.1:9", "239.1.2.3:9", "240.0.0.1:9", "255.255.255.255:9",
		"[::]:9", "[::1]:9", "[fe80::1]:9", "[ff02::1]:9", "[ff0e::1]:9", "[::127.0.0.1]:9", "[::ffff:0:127.0.0.1]:9", "[64:ff9b::7f00:1]:9", "[64:ff9b:1::7f00:1]:9",
		"[2002:7f00:1::]:9", "[2002:a9fe:a9fe::1]:80", "[2002:e000:1::]:9", "[2001::1]:9", "[2001:0:a9fe:a9fe::]:80", "[2001:db8::5efe:127.0.0.1]:9",
		"192.0.2.1:0", "[2001:db8::1]:0", "192.0.2.255:9",
	}
	m := New(Config{Token: func() uint64 { return 1 }, Now: epoch, Forbid: func(a netip.AddrPort) bool { return a == addr("192.0.2.255:9") }})
	m.SetLocal([]Candidate{{Host, addr("192.0.2.7:1")}, {Host, addr("[2001:db8::7]:1")}}, epoch)
	m.SetRelay(Via{Relay: 1}, true, epoch)
	for i, a := range forbidden {
		mapped := netip.AddrPortFrom(netip.AddrFrom16(addr(a).Addr().As16()), addr(a).Port()) // as it is written in the frame
		for _, at := range []netip.AddrPort{addr(a), mapped} {
			body := list{sequence: uint32(i + 1), candidates: []Candidate{{Host, at}}}.append()
			if err := m.Frame(Via{Relay: 1}, Candidates, body, epoch); err != nil {
				t.Fatal(err)
			}
			m.Received(Via{Addr: addr(a)}, 96, true, true, epoch)
			_ = m.Frame(Via{Addr: addr(a)}, Challenge, appendChallenge(1), epoch)
			for _, p := range m.Poll(epoch) {
				if !p.Via.Relayed() {
					t.Errorf("%s: a datagram goes to %v", a, p.Via)
				}
			}
		}
	}
	if len(m.paths) != 1 {
		t.Errorf("%d paths", len(m.paths))
	}
}

func TestLoopbackOnlyWhereAllowed(t *testing.T) {
	for _, loopback := range []bool{false, true} {
		m := New(Config{Token: func() uint64 { return 1 }, Now: epoch, Loopback: loopback})
		if m.allowed(addr("127.0.0.1:9")) != loopback || m.allowed(addr("[::1]:9")) != loopback {
			t.Errorf("loopback %t is not what was asked for", loopback)
		}
		m.SetLocal([]Candidate{{Host, addr("127.0.0.1:9")}}, epoch)
		if (len(m.local.candidates) == 1) != loopback {
			t.Errorf("announces %v", m.local.candidates)
		}
	}
}

// hostile is a manager whose peer announces lists; it counts what goes where.
type hostile struct {
	m    *Manager
	sent map[netip.AddrPort]int
	all  int
	next uint32
}

func newHostile() *hostile {
	n := uint64(0)
	h := &hostile{m: New(Config{Token: func() uint64 { n++; return n }, Now: epoch}), sent: map[netip.AddrPort]int{}}
	h.m.SetLocal([]Candidate{{Host, addr("192.0.2.7:1")}}, epoch)
	h.m.SetRelay(Via{Relay: 1}, true, epoch)
	return h
}

func (h *hostile) announce(t *testing.T, now time.Time, at func(i int) netip.AddrPort) {
	h.next++
	l := list{sequence: h.next}
	for i := range MaxCandidates {
		l.candidates = append(l.candidates, Candidate{Host, at(i)})
	}
	h.m.Received(Via{Relay: 1}, 96, true, false, now)
	if err := h.m.Frame(Via{Relay: 1}, Candidates, l.append(), now); err != nil {
		t.Fatal(err)
	}
	for _, p := range h.m.Poll(now) {
		if !p.Via.Relayed() {
			h.sent[p.Via.Addr]++
			h.all++
		}
	}
}

// TestHostilePeerCannotAimUs: whatever lists a compromised peer announces, what
// goes to addresses that never answer is a trickle.
func TestHostilePeerCannotAimUs(t *testing.T) {
	const long = time.Minute
	for name, at := range map[string]func(round, i int) netip.AddrPort{
		"one host, all ports": func(round, i int) netip.AddrPort {
			return netip.AddrPortFrom(victim.Addr(), uint16(1+(round*MaxCandidates+i)%65535))
		},
		"one address": func(int, int) netip.AddrPort { return victim },
		"a network": func(round, i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(round >> 8), byte(round), byte(i)}), 53)
		},
		"always the same": func(_, i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 53)
		},
	} {
		h := newHostile()
		for round := range int(long / (10 * time.Millisecond)) {
			h.announce(t, epoch.Add(time.Duration(round)*10*time.Millisecond), func(i int) netip.AddrPort { return at(round, i) })
		}
		most := allBurst + int(long/allEvery)
		t.Logf("%s: %d datagrams to %d addresses", name, h.all, len(h.sent))
		if h.all > most {
			t.Errorf("%s: %d datagrams in %v, at most %d", name, h.all, long, most)
		}
		for a, n := range h.sent {
			if n > candidateBurst+int(long/candidateEvery) {
				t.Errorf("%s: %d datagrams to %v", name, n, a)
			}
		}
		if len(h.m.paths) > 1+MaxCandidates+maxLearned {
			t.Errorf("%s: %d paths", name, len(h.m.paths))
		}
	}
}

// TestPeerThatAnswersEverywhere cannot make us remember more and more addresses.
func TestPeerThatAnswersEverywhere(t *testing.T) {
	l := newLone(t, false)
	l.SetRelay(Via{Relay: 1}, true, l.now)
	l.SetLocal([]Candidate{{Host, addr("192.0.2.7:1")}}, l.now)
	for round := range uint32(500) {
		next := list{sequence: round + 1}
		for i := range byte(MaxCandidates) {
			next.candidates = append(next.candidates, Candidate{Host, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(round >> 8), byte(round), i}), 53)})
		}
		l.from(Via{Relay: 1}, Candidates, next.append())
		l.answer(10 * time.Millisecond)
		l.now = l.now.Add(time.Second)
		if n := len(l.paths); n > 1+MaxCandidates+maxLearned {
			t.Fatalf("%d paths after %d lists", n, round)
		}
	}
}

func TestPortScanByOneList(t *testing.T) {
	h := newHostile()
	h.announce(t, epoch, func(i int) netip.AddrPort { return netip.AddrPortFrom(victim.Addr(), uint16(i+1)) })
	if len(h.sent) != perHost {
		t.Errorf("%d ports of one host are probed, want %d", len(h.sent), perHost)
	}
}

// TestPeerWithManyAddresses: memory is bounded, and the path in use stays.
func TestPeerWithManyAddresses(t *testing.T) {
	w := streaming(t, 34)
	before, _ := w.ag.best()
	for i := range 5000 {
		a := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 999)
		w.ag.m.Received(Via{Addr: a}, 96, true, true, w.now)
		if n := len(w.ag.m.paths); n > 2+2+maxLearned {
			t.Fatalf("%d paths", n)
		}
		if i%50 == 0 {
			w.ag.arm()
			w.run(10 * time.Millisecond)
		}
	}
	w.run(3 * time.Second)
	if v, s := w.ag.best(); v != before || s != Good {
		t.Errorf("%v, %v; was %v", v, s, before)
	}
	w.ag.m.SetRelay(Via{Relay: MaxRelays + 1}, true, w.now)
	w.ag.m.SetRelay(Via{Addr: victim}, true, w.now)
	if w.ag.m.find(Via{Relay: MaxRelays + 1}) != nil {
		t.Error("a relay beyond the last")
	}
}

func TestA17MalformedFrames(t *testing.T) {
	m := New(Config{Token: func() uint64 { return 1 }, Now: epoch})
	good := list{sequence: 1, candidates: []Candidate{{Host, addr("192.0.2.1:4242")}, {Configured, addr("[2001:db8::1]:1")}}}.append()
	edit := func(at int, to byte) []byte { b := slices.Clone(good); b[at] = to; return b }
	for name, f := range map[string]struct {
		typ  byte
		body []byte
	}{
		"empty challenge": {Challenge, nil},
		"short challenge": {Challenge, make([]byte, 7)},
		"long challenge":  {Challenge, make([]byte, 9)},
		"short response":  {Response, make([]byte, responseSize-1)},
		"long response":   {Response, make([]byte, responseSize+1)},
		"empty list":      {Candidates, nil},
		"list without n":  {Candidates, []byte{0, 0, 0, 1}},
		"list number 0":   {Candidates, []byte{0, 0, 0, 0, 0}},
		"n is too small":  {Candidates, edit(4, 1)},
		"n is too large":  {Candidates, edit(4, 3)},
		"n is 255":        {Candidates, edit(4, 255)},
		"kind 0":          {Candidates, edit(5, 0)},
		"kind peer":       {Candidates, edit(5, byte(Peer))},
		"trailing byte":   {Candidates, append(slices.Clone(good), 0)},
		"17 candidates":   {Candidates, append([]byte{0, 0, 0, 1, 17}, make([]byte, 17*candidateSize)...)},
		"short seen":      {CandidatesSeen, make([]byte, 3)},
		"long seen":       {CandidatesSeen, make([]byte, 5)},
	} {
		if err := m.Frame(Via{Relay: 1}, f.typ, f.body, epoch); refusal.Of(err) != refusal.ProtocolError {
			t.Errorf("%s: %v, want protocol_error", name, err)
		}
	}
	if err := m.Frame(Via{Relay: 1}, 0x94, []byte("of a later version"), epoch); err != nil {
		t.Errorf("an unknown frame: %v", err)
	}
	if err := m.Frame(Via{Relay: 1}, Candidates, good, epoch); err != nil {
		t.Error(err)
	}
}

// frames are the bodies of every type.
func frames() map[byte][]byte {
	return map[byte][]byte{
		Challenge:      appendChallenge(0x0102030405060708),
		Response:       response{token: 1, observed: addr("192.0.2.1:4242")}.append(),
		Candidates:     list{sequence: 1, candidates: []Candidate{{Host, addr("192.0.2.1:4242")}, {Reflexive, addr("[2001:db8::1]:1")}}}.append(),
		CandidatesSeen: appendSeen(3),
	}
}

// again parses a body and writes it again.
func again(typ byte, b []byte) ([]byte, error) {
	switch typ {
	case Challenge:
		token, err := parseChallenge(b)
		return appendChallenge(token), err
	case Response:
		r, err := parseResponse(b)
		return r.append(), err
	case Candidates:
		l, err := parseList(b)
		return l.append(), err
	}
	sequence, err := parseSeen(b)
	return appendSeen(sequence), err
}

func TestEveryFlippedByteIsRefusedOrMeansSomethingElse(t *testing.T) {
	for typ, b := range frames() {
		for i := range b {
			for bit := range 8 {
				bad := slices.Clone(b)
				bad[i] ^= 1 << bit
				if got, err := again(typ, bad); err == nil && !slices.Equal(got, bad) {
					t.Errorf("%x: %x is read as %x", typ, bad, got)
				}
			}
		}
		for n := range b {
			if _, err := again(typ, b[:n]); err == nil {
				t.Errorf("%x: cut off after %d bytes", typ, n)
			}
		}
	}
}

func TestWorkedExample(t *testing.T) {
	const want = "00000001010100000000000000000000ffffc00002011092"
	b := list{sequence: 1, candidates: []Candidate{{Host, addr("192.0.2.1:4242")}}}.append()
	if got := fmt.Sprintf("%x", b); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := fmt.Sprintf("%x", response{token: 2}.append()[tokenSize:]); got != fmt.Sprintf("%x", make([]byte, addrPortSize)) {
		t.Errorf("no address is %s", got)
	}
}

func FuzzFrames(f *testing.F) {
	for typ, b := range frames() {
		f.Add(typ, b)
	}
	f.Add(byte(Candidates), binary.BigEndian.AppendUint32(nil, 1))
	f.Fuzz(func(t *testing.T, typ byte, b []byte) {
		typ = Challenge + typ%4
		got, err := again(typ, b)
		if err == nil && !slices.Equal(got, b) {
			t.Errorf("%x: %x is read as %x", typ, b, got)
		}
		if err != nil && refusal.Of(err) != refusal.ProtocolError {
			t.Errorf("%v has no code", err)
		}
		m := New(Config{Token: func() uint64 { return 1 }, Now: epoch})
		m.SetRelay(Via{Relay: 1}, true, epoch)
		if e := m.Frame(Via{Relay: 1}, typ, b, epoch); (e == nil) != (err == nil) {
			t.Errorf("the manager says %v, the parser %v", e, err)
		}
		m.Poll(epoch)
	})
}
