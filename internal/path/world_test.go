package path

import (
	"container/heap"
	"math/rand/v2"
	"net/netip"
	"time"
)

var epoch = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)

// reporter is what *testing.T, *testing.B and *rapid.T have in common.
type reporter interface {
	Helper()
	Errorf(string, ...any)
	Fatalf(string, ...any)
}

// world is a network with a clock of its own and two ends in it.
type world struct {
	t      reporter
	now    time.Time
	events queue
	order  int
	random *rand.Rand
	op, ag *host
	relays map[uint8]*link
	direct link
	public map[netip.AddrPort]*nat // outer addresses in use
	inner  map[netip.AddrPort]*host
	wire   int // bytes with headers, of both ends together

	// deliver, when set, sees each datagram before it arrives; false drops it.
	deliver func(to *host, d *datagram) bool
}

// link is a way between the ends.
type link struct {
	delay time.Duration
	loss  float64
	cut   bool
}

type datagram struct {
	counter uint64
	typ     byte // 0 is data
	body    []byte
	size    int
	id      int // of data; copies have the same
	ack     bool
	via     Via // as the receiver sees it
}

// host is one end: a Manager, with as much of a session around it as matters.
type host struct {
	w       *world
	name    string
	m       *Manager
	peer    *host
	addr    netip.AddrPort // its own
	nat     *nat           // nil: none
	counter uint64
	highest uint64
	seen    map[uint64]bool
	pollAt  time.Time
	stopped bool // SIGSTOP: no timer runs, datagrams wait
	waiting []*datagram

	got      map[int]time.Time // data by id
	gotOrder []time.Time
	moreIDs  int
	public   []netip.AddrPort // announced at any time
	sent     map[netip.AddrPort]*account
	probes   int
	tokens   map[uint64]netip.AddrPort
	via      func(Via) // sees where each data datagram goes
}

// account is what the test itself knows about an address.
type account struct {
	in, out     int
	challenges  int
	answered    bool
	outUnproven int
}

// nat is an address translator.
type nat struct {
	w         *world
	outer     netip.Addr
	symmetric bool // another port for each destination
	open      bool // lets anybody in who knows the port
	timeout   time.Duration
	nextPort  uint16
	maps      map[natKey]*mapping
}

type natKey struct{ inside, to netip.AddrPort }

type mapping struct {
	outside netip.AddrPort
	inside  netip.AddrPort
	allowed map[netip.AddrPort]time.Time
	used    time.Time
}

func addr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func newWorld(t reporter, seed uint64) *world {
	w := &world{
		t: t, now: epoch, random: rand.New(rand.NewPCG(seed, 7)),
		relays: map[uint8]*link{1: {delay: 25 * time.Millisecond}, 2: {delay: 35 * time.Millisecond}},
		direct: link{delay: 20 * time.Millisecond},
		public: map[netip.AddrPort]*nat{}, inner: map[netip.AddrPort]*host{},
	}
	w.op = w.host("operator", "10.0.0.2:4001")
	w.ag = w.host("agent", "10.9.0.2:4002")
	w.op.peer, w.ag.peer = w.ag, w.op
	return w
}

func (w *world) host(name, at string) *host {
	h := &host{w: w, name: name, addr: addr(at), seen: map[uint64]bool{}, got: map[int]time.Time{}, sent: map[netip.AddrPort]*account{}, tokens: map[uint64]netip.AddrPort{}}
	h.m = New(Config{Operator: name == "operator", Token: w.random.Uint64, Now: w.now})
	w.inner[h.addr] = h
	return h
}

// behind puts h behind a NAT of its own.
func (w *world) behind(h *host, outer string) *nat {
	h.nat = &nat{w: w, outer: netip.MustParseAddr(outer), timeout: 30 * time.Second, nextPort: 30000, maps: map[natKey]*mapping{}}
	return h.nat
}

// rebind forgets all mappings: the next datagram goes out by another port.
func (n *nat) rebind() {
	for _, m := range n.maps {
		delete(n.w.public, m.outside)
	}
	n.maps = map[natKey]*mapping{}
}

func (n *nat) out(inside, to netip.AddrPort) netip.AddrPort {
	k := natKey{inside: inside}
	if n.symmetric {
		k.to = to
	}
	m := n.maps[k]
	if m == nil || n.w.now.Sub(m.used) > n.timeout {
		if m != nil {
			delete(n.w.public, m.outside)
		}
		n.nextPort++
		m = &mapping{outside: netip.AddrPortFrom(n.outer, n.nextPort), inside: inside, allowed: map[netip.AddrPort]time.Time{}}
		n.maps[k] = m
		n.w.public[m.outside] = n
	}
	m.used, m.allowed[to] = n.w.now, n.w.now
	return m.outside
}

func (n *nat) in(outside, from netip.AddrPort) (netip.AddrPort, bool) {
	for _, m := range n.maps {
		if m.outside != outside || n.w.now.Sub(m.used) > n.timeout {
			continue
		}
		if at, ok := m.allowed[from]; n.open || ok && n.w.now.Sub(at) <= n.timeout {
			m.used = n.w.now
			return m.inside, true
		}
	}
	return netip.AddrPort{}, false
}

// reflexive is the address a relay sees h at; it opens the mapping as an
// allocation does.
func (h *host) reflexive() netip.AddrPort {
	if h.nat == nil {
		return h.addr
	}
	return h.nat.out(h.addr, addr("198.51.100.250:3478"))
}

// begin brings the relays up and, with direct, tells each end its candidates.
func (w *world) begin(direct bool) {
	for _, h := range []*host{w.op, w.ag} {
		for i := range w.relays {
			h.m.SetRelay(Via{Relay: i}, true, w.now)
		}
		if direct {
			h.announce()
		}
		h.arm()
	}
}

func (h *host) announce() {
	h.public = append(h.public, h.addr, h.reflexive())
	own := []Candidate{{Host, h.addr}}
	if h.nat != nil {
		own = append(own, Candidate{Reflexive, h.reflexive()})
	}
	h.m.SetLocal(own, h.w.now)
	h.arm()
}

// The event queue.
type event struct {
	at    time.Time
	order int
	do    func()
}
type queue []event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at.Before(q[j].at) || q[i].at.Equal(q[j].at) && q[i].order < q[j].order
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *queue) Pop() any     { e := (*q)[len(*q)-1]; *q = (*q)[:len(*q)-1]; return e }

func (w *world) after(d time.Duration, do func()) {
	w.order++
	heap.Push(&w.events, event{w.now.Add(d), w.order, do})
}

// every calls do regularly until it says false.
func (w *world) every(d time.Duration, do func() bool) {
	w.after(d, func() {
		if do() {
			w.every(d, do)
		}
	})
}

// run lets the world go on for d.
func (w *world) run(d time.Duration) {
	end := w.now.Add(d)
	w.runUntil(func() bool { return false }, d)
	w.now = end
}

// runUntil lets the world go on until done, for d at most, and says how long it took.
func (w *world) runUntil(done func() bool, d time.Duration) (time.Duration, bool) {
	began, end := w.now, w.now.Add(d)
	for len(w.events) > 0 && !w.events[0].at.After(end) {
		if done() {
			return w.now.Sub(began), true
		}
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		e.do()
	}
	return w.now.Sub(began), done()
}

// arm sets the timer of h.
func (h *host) arm() {
	t := h.m.Next()
	if t.IsZero() || h.stopped || !h.pollAt.IsZero() && !t.Before(h.pollAt) {
		return
	}
	h.pollAt = t
	h.w.after(max(0, t.Sub(h.w.now)), func() {
		if !h.pollAt.Equal(t) || h.stopped {
			return
		}
		h.pollAt = time.Time{}
		h.poll()
	})
}

func (h *host) poll() {
	for _, p := range h.m.Poll(h.w.now) {
		size := datagramSize(len(p.Body))
		if p.Size > 0 {
			size = p.Size
		}
		if p.Type == Challenge {
			h.probes++
			token, _ := parseChallenge(p.Body)
			h.tokens[token] = p.Via.Addr
		}
		h.send(p.Via, &datagram{typ: p.Type, body: p.Body, size: size})
	}
	if next := h.m.Next(); !next.IsZero() && next.Before(h.w.now) {
		h.w.t.Fatalf("%s: the next poll is in the past", h.name)
	}
	h.arm()
}

// data sends one datagram of data as a session does.
func (h *host) data(id, size int, ack bool) {
	first, second, state := h.m.Best(h.w.now)
	if state == Gone { // a session keeps it for later
		return
	}
	for i, v := range []Via{first, second} {
		if (v == Via{}) || i == 1 && state == Good {
			continue
		}
		if !v.Relayed() && !h.account(v.Addr).answered {
			h.w.t.Errorf("%s sends data to %v, which never answered", h.name, v)
		}
		if h.via != nil {
			h.via(v)
		}
		h.m.Sent(v, size, h.w.now)
		h.send(v, &datagram{size: size, id: id, ack: ack})
	}
	h.arm()
}

func (h *host) account(a netip.AddrPort) *account {
	if h.sent[a] == nil {
		h.sent[a] = &account{}
	}
	return h.sent[a]
}

func (h *host) send(v Via, d *datagram) {
	w := h.w
	h.counter++
	d.counter = h.counter
	w.wire += d.size + 28
	if v.Relayed() {
		w.wire += 4
		h.reflexive() // keeps the mapping towards the relay
		w.carry(w.relays[v.Relay], h.peer, d, v)
		return
	}
	a := h.account(v.Addr)
	a.out += d.size
	if d.typ == Challenge {
		a.challenges++
	}
	if !a.answered {
		a.outUnproven += d.size
	}
	from := h.addr
	if h.nat != nil {
		from = h.nat.out(h.addr, v.Addr)
	}
	l := w.direct
	if l.cut || w.random.Float64() < l.loss {
		return
	}
	w.after(l.delay, func() {
		if w.direct.cut {
			return
		}
		to := w.inner[v.Addr]
		if n := w.public[v.Addr]; n != nil {
			if inside, ok := n.in(v.Addr, from); ok {
				to = w.inner[inside]
			}
		} else if to != nil && to.nat != nil {
			to = nil // private to its own network
		}
		if to != nil && to != h {
			to.arrive(d, Via{Addr: from})
		}
	})
}

func (w *world) carry(l *link, to *host, d *datagram, v Via) {
	if l == nil || l.cut || w.random.Float64() < l.loss {
		return
	}
	w.after(l.delay, func() {
		if !l.cut {
			to.arrive(d, v)
		}
	})
}

// arrive is the receiving half of a session: replay window, then the manager.
func (h *host) arrive(d *datagram, v Via) {
	c := *d
	c.via = v
	if v.Relayed() {
		h.reflexive()
	}
	if h.w.deliver != nil && !h.w.deliver(h, &c) {
		return
	}
	if h.stopped {
		if len(h.waiting) < 50 {
			h.waiting = append(h.waiting, &c)
		}
		return
	}
	h.take(&c)
}

func (h *host) take(d *datagram) {
	if h.seen[d.counter] {
		return
	}
	h.seen[d.counter] = true
	newest := d.counter > h.highest
	h.highest = max(h.highest, d.counter)
	if !d.via.Relayed() {
		h.account(d.via.Addr).in += d.size
	}
	h.m.Received(d.via, d.size, newest, d.typ == 0, h.w.now)
	if d.typ != 0 {
		if d.typ == Response {
			r, _ := parseResponse(d.body)
			if a := h.tokens[r.token]; a.IsValid() {
				h.account(a).answered = true
			}
		}
		if err := h.m.Frame(d.via, d.typ, d.body, h.w.now); err != nil {
			h.w.t.Errorf("%s: frame %x: %v", h.name, d.typ, err)
		}
		h.arm()
		return
	}
	if _, old := h.got[d.id]; !old {
		h.got[d.id] = h.w.now
		h.gotOrder = append(h.gotOrder, h.w.now)
		if d.ack {
			h.moreIDs++
			h.data(1<<30+h.moreIDs, 96, false)
		}
	}
	h.arm()
}

func (h *host) stop() { h.stopped, h.pollAt = true, time.Time{} }

func (h *host) cont() {
	h.stopped = false
	for _, d := range h.waiting {
		h.take(d)
	}
	h.waiting = nil
	h.arm()
}
