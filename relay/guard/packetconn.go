package guard

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Waits after an error of the socket below, so that a broken socket costs
// neither the read loop nor a core. Our choice.
const (
	minBackoff = time.Millisecond
	maxBackoff = time.Second
)

// Options of NewPacketConn and NewConn.
type Options struct {
	// Side that reads here. Required.
	Side Side
	// Relay is, on a Client, the one address that datagrams may come from; what
	// comes from elsewhere is dropped before it is parsed (probe T3). Required
	// on a client's packet connection, ignored elsewhere.
	Relay netip.AddrPort
	// Stats receives the count of refused frames. May be nil.
	Stats *Stats
}

func (o Options) validate() error {
	if o.Side != Server && o.Side != Client {
		return errors.New("guard: options: side is neither server nor client")
	}
	return nil
}

// PacketConn is a net.PacketConn that hands out only frames the guard has
// accepted. pion's read loops end at the first error, so ReadFrom returns one
// only when the connection is closed or the caller's own deadline has passed.
type PacketConn struct {
	net.PacketConn
	opt    Options
	closed chan struct{}
	once   sync.Once
}

// NewPacketConn puts the guard in front of conn, which it owns from then on. It
// fails if the options name no side, or a client without its relay.
func NewPacketConn(conn net.PacketConn, opt Options) (*PacketConn, error) {
	if err := opt.validate(); err != nil {
		return nil, err
	}
	if opt.Side == Client && !opt.Relay.IsValid() {
		return nil, errors.New("guard: options: a client must name its relay")
	}
	opt.Relay = unmap(opt.Relay)
	return &PacketConn{PacketConn: conn, opt: opt, closed: make(chan struct{})}, nil
}

// ReadFrom returns the next accepted frame. A frame that does not fit into p
// counts as too long and is dropped; p of MaxFrame bytes holds every frame.
func (c *PacketConn) ReadFrom(p []byte) (int, net.Addr, error) {
	wait := minBackoff
	for {
		n, from, err := c.PacketConn.ReadFrom(p)
		if err == nil {
			if err := c.judge(p[:n], from); err != nil {
				c.opt.Stats.countErr(err)
				continue
			}
			return n, from, nil
		}
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, nil, err
		}
		if !c.pause(wait) {
			return 0, nil, net.ErrClosed
		}
		wait = min(2*wait, maxBackoff)
	}
}

func (c *PacketConn) judge(frame []byte, from net.Addr) error {
	if c.opt.Side == Client && addrPort(from) != c.opt.Relay {
		return WrongSource
	}
	return c.opt.Side.Check(frame)
}

// pause reports false if the connection was closed meanwhile.
func (c *PacketConn) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c.closed:
		return false
	case <-t.C:
		return true
	}
}

// WriteTo sends p to addr. On a client the first, unauthenticated request is
// padded (see PadRequest); the count returned is that of p.
func (c *PacketConn) WriteTo(p []byte, addr net.Addr) (int, error) {
	out := p
	if c.opt.Side == Client {
		out = PadRequest(p)
	}
	if _, err := c.PacketConn.WriteTo(out, addr); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close closes the socket below and ends every ReadFrom. It may be called more
// than once.
func (c *PacketConn) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		close(c.closed)
		err = c.PacketConn.Close()
	})
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.UDPAddr:
		return unmap(a.AddrPort())
	case *net.TCPAddr:
		return unmap(a.AddrPort())
	case nil:
		return netip.AddrPort{}
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return unmap(ap)
}

// unmap: a dual-stack socket reports IPv4 peers as IPv6; comparing the two forms
// would refuse the right relay.
func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
