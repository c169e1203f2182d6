package portmap

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// pcpRouter answers as RFC 6887 says, with one mapping at a time.
type pcpRouter struct {
	mu     sync.Mutex
	began  time.Time // guarded by mu; when it began to remember
	nonce  [12]byte  // guarded by mu; of the mapping
	inner  uint16    // guarded by mu; 0 for none
	outer  uint16    // guarded by mu
	asked  int       // guarded by mu; for a mapping
	result byte      // guarded by mu; of mappings
	mute   bool      // guarded by mu; makes mappings and does not say so
}

func (r *pcpRouter) inside() (inner, outer uint16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.inner, r.outer
}

// answer is for router.udp.
func (r *pcpRouter) answer(q []byte) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(q) < pcpHead || q[0] != pcpVersion {
		return nil
	}
	a := make([]byte, len(q))
	copy(a, q)
	clear(a[8:pcpHead])
	a[1] |= pcpAnswer
	binary.BigEndian.PutUint32(a[8:], uint32(time.Since(r.began)/time.Second))
	if q[1] == pcpAnnounce {
		return a
	}
	if us := netip.AddrFrom16([16]byte(q[8:24])).Unmap(); us != netip.MustParseAddr("127.0.0.1") {
		a[3] = 12 // ADDRESS_MISMATCH
		return a
	}
	r.asked++
	life, nonce := binary.BigEndian.Uint32(q[4:]), [12]byte(q[24:36])
	inner, wish := binary.BigEndian.Uint16(q[40:]), binary.BigEndian.Uint16(q[42:])
	switch {
	case r.result != 0 || r.inner != 0 && r.nonce != nonce:
		a[3] = max(r.result, 2) // NOT_AUTHORIZED
		return a
	case life == 0:
		r.inner, r.outer = 0, 0
	case r.inner == 0:
		r.nonce, r.inner, r.outer = nonce, inner, wish+1 // another one than was wished for
	}
	binary.BigEndian.PutUint16(a[42:], r.outer)
	ip := outer.As16()
	copy(a[44:], ip[:])
	if r.mute {
		return nil
	}
	return a
}

func newPCPRouter() *pcpRouter { return &pcpRouter{began: time.Now().Add(-time.Hour)} }

func TestMappingByPCPIsGivenBack(t *testing.T) {
	t.Parallel()
	r, p := newRouter(t), newPCPRouter()
	var others atomic.Int32
	r.udp(pcpPort, func(q []byte) []byte {
		if q[0] == 0 {
			others.Add(1)
		}
		return p.answer(q)
	})
	at, again, stop := keep(t, Config{Port: 40000, Gateway: r.gateway})
	awaitMapping(t, at, again)
	if at() != netip.AddrPortFrom(outer, 40001) {
		t.Errorf("told %v", at())
	}
	questions := func() int { p.mu.Lock(); defer p.mu.Unlock(); return p.asked }
	before := questions() // more than one where the answer was late
	if before == 1 && others.Load() > 0 {
		t.Error("NAT-PMP was asked for too")
	}
	again <- struct{}{} // the network has changed; the mapping is the same, by its nonce
	until(t, "a renewal", func() bool { return questions() > before })
	stop()
	until(t, "the mapping to be given back", func() bool { in, _ := p.inside(); return in == 0 })
	if at() != netip.AddrPortFrom(outer, 40001) {
		t.Errorf("told %v", at())
	}
}

// TestRouterThatForgotIsAskedAnew long before the mapping would have to be renewed.
func TestRouterThatForgotIsAskedAnew(t *testing.T) {
	t.Parallel()
	r, p := newRouter(t), newPCPRouter()
	r.udp(pcpPort, p.answer)
	k, told := keeping(r)
	if wait := k.renew(t.Context()); wait != lease/2 || k.pause(time.Now().Add(wait)) > lookEvery {
		t.Fatalf("again after %v", wait)
	}
	if !k.stands(t.Context()) {
		t.Error("a router that remembers was not believed")
	}
	p.mu.Lock()
	p.began, p.inner = time.Now(), 0
	p.mu.Unlock()
	if k.stands(t.Context()) {
		t.Error("a router that began anew was believed")
	}
	k.renew(t.Context())
	if _, out := p.inside(); len(*told) != 2 || (*told)[1].Port() != out || out != 40002 {
		t.Errorf("told %v, the router has %d", *told, out)
	}
	if !k.stands(t.Context()) {
		t.Error("the router remembers again")
	}
}

// TestRouterOfAnotherVersion is asked for nothing twice, and by NAT-PMP at once.
func TestRouterOfAnotherVersion(t *testing.T) {
	t.Parallel()
	until(t, "one question by PCP", func() bool { // there are more where an answer is late
		r := newRouter(t)
		var asked atomic.Int32
		r.udp(pcpPort, func(q []byte) []byte {
			if q[0] == 0 {
				return r.pmp(q)
			}
			asked.Add(1)
			return []byte{0, 128 | q[1], 0, 1, 0, 0, 0, 1}
		})
		k, told := keeping(r)
		k.renew(t.Context())
		return asked.Load() == 1 && len(*told) == 1 && r.mapped(40000) != 0
	})
}

// TestRouterThatRefusesPCP may have NAT-PMP for it.
func TestRouterThatRefusesPCP(t *testing.T) {
	t.Parallel()
	r, p := newRouter(t), newPCPRouter()
	p.result = 4 // UNSUPP_OPCODE
	r.udp(pcpPort, func(q []byte) []byte {
		if q[0] == 0 {
			return r.pmp(q)
		}
		return p.answer(q)
	})
	k, told := keeping(r)
	if k.renew(t.Context()); len(*told) != 1 || r.mapped(40000) == 0 {
		t.Errorf("told %v", *told)
	}
}

func TestMappingByPCPWhoseAnswerNeverComesIsTakenBack(t *testing.T) {
	t.Parallel()
	r, p := newRouter(t), newPCPRouter()
	p.mute = true
	r.udp(pcpPort, p.answer)
	g, _ := r.gateway()
	var ask pcp
	if m, err := ask.ask(t.Context(), g, 40000, 0); err == nil {
		t.Errorf("believed %v", m.external)
	}
	until(t, "the mapping to be taken back", func() bool {
		in, _ := p.inside()
		p.mu.Lock()
		defer p.mu.Unlock()
		return in == 0 && p.asked > pcpTries
	})
}

// TestAnswersToOthersQuestions are skipped: whoever has not seen the nonce cannot
// answer, and a late answer about something else changes nothing.
func TestAnswersToOthersQuestions(t *testing.T) {
	g := Gateway{Addr: netip.MustParseAddr("192.0.2.1"), Source: netip.MustParseAddr("192.0.2.2")}
	p := pcp{nonce: [12]byte{1, 2, 3}}
	question := p.mapRequest(g, 40000, 40000, lease)
	good := append([]byte{}, question...)
	good[1] |= pcpAnswer
	ip := outer.As16()
	copy(good[44:], ip[:])
	if r, err := parsePCP(good, pcpMap); err != nil || !r.belongs(question) || r.external != netip.AddrPortFrom(outer, 40000) || r.life != lease || r.refusal() != nil {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, at := range []int{24, 30, 35, 36, 40, 41} { // nonce, protocol, inner port
		bad := append([]byte{}, good...)
		bad[at] ^= 1
		if r, err := parsePCP(bad, pcpMap); err != nil || r.belongs(question) {
			t.Errorf("byte %d changed: %+v, %v", at, r, err)
		}
	}
	for name, bad := range map[string][]byte{
		"a question": question, "short": good[:pcpHead], "odd": good[:pcpMapSize-1], "nothing": nil, "another opcode": append([]byte{2, 130}, good[2:]...),
		"a newer version": append([]byte{3}, good[1:]...), "long": append(good[:pcpMapSize:pcpMapSize], make([]byte, pcpMost)...),
	} {
		if _, err := parsePCP(bad, pcpMap); err != errNotAnswer {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEpochThatDoesNotFollow(t *testing.T) {
	begun := time.Now()
	for _, c := range []struct {
		ours   time.Duration
		theirs uint32 // from 1000
		want   bool
	}{
		{time.Minute, 1060, true}, {time.Minute, 1055, true}, {time.Minute, 1065, true}, {0, 999, true}, {0, 1000, true},
		{time.Minute, 60, false}, {time.Minute, 998, false}, {time.Minute, 1050, false}, {time.Minute, 1080, false}, {time.Hour, 1000, false},
	} {
		var e epoch
		if !e.follows(1000, begun) {
			t.Fatal("the first one follows nothing")
		}
		if got := e.follows(c.theirs, begun.Add(c.ours)); got != c.want {
			t.Errorf("%d after %v: %v", c.theirs, c.ours, got)
		}
	}
}

func FuzzPCP(f *testing.F) {
	g := Gateway{Addr: netip.MustParseAddr("192.0.2.1"), Source: netip.MustParseAddr("192.0.2.2")}
	good := (&pcp{}).mapRequest(g, 40000, 40001, lease)
	good[1] |= pcpAnswer
	f.Add(good, byte(pcpMap))
	f.Add(append([]byte{2, 128}, make([]byte, 22)...), byte(pcpAnnounce))
	f.Add([]byte{0, 129, 0, 1, 0, 0, 0, 1}, byte(pcpMap))
	f.Fuzz(func(t *testing.T, b []byte, opcode byte) {
		r, err := parsePCP(b, opcode&127)
		if err != nil {
			return
		}
		if b[0] != pcpVersion || len(b)%4 != 0 || r.result != b[3] || r.life < 0 {
			t.Errorf("%x: %+v", b, r)
		}
		if opcode&127 == pcpMap && (r.external.Port() != binary.BigEndian.Uint16(b[42:]) || r.external.Addr().Is4In6() || r.belongs(good) && r.inner != 40000) {
			t.Errorf("%x: %+v", b, r)
		}
	})
}
