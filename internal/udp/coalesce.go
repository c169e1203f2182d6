package udp

import "net/netip"

// coalescerSlots is how many destinations a Coalescer gathers for at a time. Our
// choice: a batch of receives rarely mixes more busy flows.
const coalescerSlots = 4

// Coalescer gathers single datagrams for a few destinations and sends those of
// one size to one address together. It is for forwarders that receive datagram
// by datagram: the copy is far cheaper than the system call it saves. Order is
// kept per destination. It belongs to one goroutine, which calls Flush before it
// waits for input.
type Coalescer struct {
	conn   *Conn
	failed func(bytes int, err error)
	slots  [coalescerSlots]gathered
	next   int // the slot to give up when all are taken
}

type gathered struct {
	to   netip.AddrPort
	buf  []byte // len is what has been gathered
	size int    // segment size; 0 when the slot is free
	full bool   // a shorter datagram has closed the run
}

// NewCoalescer returns an empty Coalescer that sends on conn. failed, which may
// be nil, is told of every send that failed and how many bytes it held.
func NewCoalescer(conn *Conn, failed func(bytes int, err error)) *Coalescer {
	return &Coalescer{conn: conn, failed: failed}
}

// Add copies one datagram to be sent to an address, and sends what it displaces.
func (c *Coalescer) Add(b []byte, to netip.AddrPort) {
	if len(b) == 0 || len(b) > MaxDatagram {
		return
	}
	g := c.slot(to)
	if g.size != 0 && !g.takes(len(b)) {
		c.send(g)
	}
	if g.size == 0 {
		g.to, g.size, g.full = to, len(b), false
	}
	g.buf = append(g.buf, b...)
	g.full = len(b) < g.size
}

// AddSegments sends datagrams of size bytes that are together already, without
// copying them, behind what has been gathered for the same address.
func (c *Coalescer) AddSegments(b []byte, size int, to netip.AddrPort) {
	for i := range c.slots {
		if g := &c.slots[i]; g.size != 0 && g.to == to {
			c.send(g)
		}
	}
	if err := c.conn.WriteSegments(b, size, to); err != nil && c.failed != nil {
		c.failed(len(b), err)
	}
}

func (g *gathered) takes(n int) bool {
	return !g.full && n <= g.size && len(g.buf)+n <= min(maxSegments*g.size, MaxDatagram)
}

// slot returns the slot that gathers for to, or a free one, or one it empties.
func (c *Coalescer) slot(to netip.AddrPort) *gathered {
	var free *gathered
	for i := range c.slots {
		g := &c.slots[i]
		if g.size != 0 && g.to == to {
			return g
		}
		if g.size == 0 && free == nil {
			free = g
		}
	}
	if free != nil {
		return free
	}
	g := &c.slots[c.next]
	c.next = (c.next + 1) % coalescerSlots
	c.send(g)
	return g
}

// Flush sends everything that has been gathered.
func (c *Coalescer) Flush() {
	for i := range c.slots {
		if c.slots[i].size != 0 {
			c.send(&c.slots[i])
		}
	}
}

func (c *Coalescer) send(g *gathered) {
	if err := c.conn.WriteSegments(g.buf, g.size, g.to); err != nil && c.failed != nil {
		c.failed(len(g.buf), err)
	}
	g.buf, g.size, g.full = g.buf[:0], 0, false
}
