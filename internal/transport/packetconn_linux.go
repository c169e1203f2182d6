package transport

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// The library batches only if it believes that it owns a UDP socket: it wants a
// descriptor, asks the kernel whether UDP_SEGMENT exists, and then writes up to
// 16 packets at once with the size in a control message. batchConn plays that
// socket, whatever the path below is; even a TCP path gains, because a batch is
// sealed and written at once.
type batchConn struct {
	*packetConn
	pkts [8]Packet // of the one reader
}

// probe is a UDP socket that is never bound and never sends. The library asks
// it what the kernel can do and sets options on it, which must not reach the
// real socket: with them the kernel would add control messages that
// internal/udp does not expect.
type probe struct {
	mu    sync.Mutex
	fd    int // guarded by mu; 0 until opened
	calls int // guarded by mu
	gone  bool
}

var errNoBuffers = errors.New("transport: socket buffers belong to the link")

func (c *packetConn) conn() net.PacketConn { return &batchConn{packetConn: c} }

// SyscallConn refuses the first two calls: with them the library would inspect
// the buffer sizes of the socket, find the probe's too small and print a
// warning. If a later release asks in another order, it prints that warning or
// does not batch; TestBatchesAreWritten would notice.
func (c *batchConn) SyscallConn() (syscall.RawConn, error) {
	p := &c.probe
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.calls++; p.calls <= 2 {
		return nil, errNoBuffers
	}
	if p.gone {
		return nil, net.ErrClosed
	}
	if p.fd == 0 {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, os.NewSyscallError("socket", err)
		}
		p.fd = fd
	}
	return p, nil
}

// Control shows f the descriptor.
func (p *probe) Control(f func(fd uintptr)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fd == 0 {
		return net.ErrClosed
	}
	f(uintptr(p.fd))
	return nil
}

// Read is never wanted of a probe.
func (p *probe) Read(func(uintptr) bool) error { return net.ErrClosed }

// Write is never wanted of a probe.
func (p *probe) Write(func(uintptr) bool) error { return net.ErrClosed }

func (c *packetConn) release() {
	c.stop()
	p := &c.probe
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	if p.fd != 0 {
		_ = unix.Close(p.fd)
		p.fd = 0
	}
}

// ReadBatch lets ReadPackets write into the library's buffers and points the
// messages at the packets inside them.
func (c *batchConn) ReadBatch(ms []ipv4.Message, _ int) (int, error) {
	pkts := c.pkts[:min(len(ms), len(c.pkts))]
	for i := range pkts {
		pkts[i].Buf = ms[i].Buffers[0]
	}
	c.backlog.wait()
	n, err := c.packets.ReadPackets(pkts)
	if err != nil {
		return 0, err
	}
	for i := range n {
		ms[i].Buffers[0] = pkts[i].Data
		ms[i].N = len(pkts[i].Data)
		c.backlog.add(ms[i].N)
		ms[i].NN = 0
		ms[i].Addr = c.peer
	}
	return n, nil
}

// ReadMsgUDP is part of the library's interface; it prefers ReadBatch.
func (c *batchConn) ReadMsgUDP(b, _ []byte) (n, oobn, flags int, addr *net.UDPAddr, err error) {
	n, _, err = c.ReadFrom(b)
	return n, 0, 0, c.peer, err
}

// WriteMsgUDP sends b in segments of the size that oob names.
func (c *batchConn) WriteMsgUDP(b, oob []byte, _ *net.UDPAddr) (n, oobn int, err error) {
	size := segmentSize(oob)
	if size == 0 {
		size = len(b)
	}
	if err := c.packets.WritePackets(b, size); err != nil {
		return 0, 0, err
	}
	return len(b), len(oob), nil
}

// segmentSize finds UDP_SEGMENT among the control messages, which come from the
// library, not from a peer. Marks for congestion (ECN) are dropped: they would
// have to survive the relay, and the library finds out that they do not.
func segmentSize(oob []byte) int {
	for len(oob) > 0 {
		h, body, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return 0
		}
		if h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_SEGMENT && len(body) >= 2 {
			return int(binary.NativeEndian.Uint16(body))
		}
		oob = rest
	}
	return 0
}
