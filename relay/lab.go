package relay

import (
	"fmt"
	"net"
	"net/netip"
	"time"
)

// allows judges a peer of lab mode. The address is unmapped first: a list that
// knows only one spelling of an address is no list (attack M2).
func (l *Lab) allows(a netip.Addr) bool {
	a = a.Unmap()
	if a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) || a.Zone() != "" {
		return false
	}
	for _, p := range l.AllowPeers {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// labConn is a real relay socket that exchanges datagrams with allowed peers
// only. The check is on the socket, below everything pion decides.
type labConn struct {
	net.PacketConn
	s       *Server
	relayed *relayed // owns the socket
}

func openLab(s *Server, r *relayed) (*labConn, error) {
	sock, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.cfg.Lab.RelayIP, 0)))
	if err != nil {
		return nil, fmt.Errorf("opening relay socket: %v", err)
	}
	r.socket = sock
	return &labConn{sock, s, r}, nil
}

// ReadFrom returns the next datagram from an allowed peer.
func (l *labConn) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := l.PacketConn.ReadFrom(p)
		if err != nil {
			return 0, nil, err
		}
		if l.allowed(from) {
			l.active()
			return n, from, nil
		}
		l.s.metrics.count(evWrongPeer)
	}
}

// WriteTo sends to an allowed peer and drops everything else.
func (l *labConn) WriteTo(b []byte, to net.Addr) (int, error) {
	if !l.allowed(to) {
		l.s.metrics.count(evWrongPeer)
		return len(b), nil
	}
	l.active()
	return l.PacketConn.WriteTo(b, to)
}

func (l *labConn) active() { l.relayed.alloc.active.Store(time.Now().UnixNano()) }

func (l *labConn) allowed(a net.Addr) bool {
	udp, ok := a.(*net.UDPAddr)
	return ok && l.s.cfg.Lab.allows(udp.AddrPort().Addr())
}

// Close ends the allocation, and with it the socket.
func (l *labConn) Close() error { return l.relayed.Close() }
