package udp

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"unsafe"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// enableOffload asks the kernel for both directions. UDP_SEGMENT is only read
// here: it is set per call. A kernel without it refuses the question.
func enableOffload(sock *net.UDPConn) (gso, gro bool) {
	raw, err := sock.SyscallConn()
	if err != nil {
		return false, false
	}
	err = raw.Control(func(fd uintptr) {
		_, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT)
		gso = err == nil
		gro = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1) == nil
	})
	if err != nil {
		return false, false
	}
	return gso, gro
}

// segmentControl is the control message that carries a segment size of 16 bits.
type segmentControl [(unix.SizeofCmsghdr + 2 + 7) &^ 7]byte

func (s *segmentControl) set(size int) {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&s[0]))
	h.Level = unix.IPPROTO_UDP
	h.Type = unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(s[unix.SizeofCmsghdr:], uint16(size))
}

// controls keeps sends free of allocations from any number of goroutines; it
// holds scratch memory only, no state.
var controls = sync.Pool{New: func() any { return new(segmentControl) }}

func sendJoined(sock *net.UDPConn, b []byte, segmentSize int, to netip.AddrPort) error {
	ctl := controls.Get().(*segmentControl)
	defer controls.Put(ctl)
	ctl.set(segmentSize)
	_, _, err := sock.WriteMsgUDPAddrPort(b, ctl[:], to)
	return err
}

// refusedOffload: the same datagrams may pass one by one. EINVAL is a segment
// larger than the path's MTU, which single datagrams may cross in fragments.
func refusedOffload(err error) bool {
	return errors.Is(err, unix.EIO) || errors.Is(err, unix.EINVAL) ||
		errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.EOPNOTSUPP)
}

// lacksOffload: the device cannot checksum segments (EIO); asking again is
// useless.
func lacksOffload(err error) bool {
	return errors.Is(err, unix.EIO) || errors.Is(err, unix.EOPNOTSUPP)
}

// batchReader receives several messages per call. Its memory belongs to the one
// goroutine that reads.
type batchReader struct {
	pc  *ipv4.PacketConn // for recvmmsg, whatever the family
	gro bool
	ms  []ipv4.Message
	oob []byte
}

// controlSpace holds one control message with the joined segments' size.
const controlSpace = 64

func newBatchReader(sock *net.UDPConn, gro bool) *batchReader {
	return &batchReader{pc: ipv4.NewPacketConn(sock), gro: gro}
}

func (r *batchReader) read(msgs []Message) (int, error) {
	r.grow(len(msgs))
	ms := r.ms[:len(msgs)]
	for i := range ms {
		ms[i].Buffers[0] = msgs[i].Buf
		if r.gro {
			ms[i].OOB = r.oob[i*controlSpace : (i+1)*controlSpace]
		}
	}
	n, err := r.pc.ReadBatch(ms, 0)
	if err != nil {
		return 0, err
	}
	for i := range ms[:n] {
		msgs[i].N = ms[i].N
		msgs[i].Addr = netip.AddrPort{}
		if from, ok := ms[i].Addr.(*net.UDPAddr); ok {
			msgs[i].Addr = unmap(from.AddrPort())
		}
		msgs[i].SegmentSize = joinedSize(ms[i].OOB[:ms[i].NN], ms[i].N)
	}
	return n, nil
}

func (r *batchReader) grow(n int) {
	for len(r.ms) < n {
		r.ms = append(r.ms, ipv4.Message{Buffers: make([][]byte, 1)})
	}
	if need := n * controlSpace; len(r.oob) < need {
		r.oob = make([]byte, need)
	}
}

// joinedSize finds the segment size in a receive's control messages. 0 stands
// for a single datagram.
func joinedSize(oob []byte, n int) int {
	for len(oob) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return 0
		}
		if h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(data) >= 2 {
			// The kernel writes an int, older ones 16 bits; sizes fit in both.
			size := int(binary.NativeEndian.Uint16(data))
			if len(data) >= 4 {
				size = int(binary.NativeEndian.Uint32(data))
			}
			if size > 0 && size < n {
				return size
			}
			return 0
		}
		oob = rest
	}
	return 0
}
