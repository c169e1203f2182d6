package transport

import (
	"encoding/binary"
	"io"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestBatchesAreWritten guards the assumptions about the library in
// packetconn_linux.go: if it stops batching, throughput halves silently.
func TestBatchesAreWritten(t *testing.T) {
	a, b := newPipes()
	operator, agent := connect(t, a, b)
	defer agent.Close()
	defer operator.Close()
	go func() {
		if s, err := operator.OpenStream(t.Context()); err == nil {
			s.Write(make([]byte, 4<<20))
			s.CloseWrite()
		}
	}()
	s, err := agent.AcceptStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, s); err != nil || n != 4<<20 {
		t.Fatalf("%d bytes: %v", n, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	longest := 0
	for _, n := range a.batches {
		longest = max(longest, n)
	}
	if longest < 8 {
		t.Errorf("the longest of %d batches holds %d packets", len(a.batches), longest)
	}
}

func TestSegmentSizeIsFoundAmongOtherMessages(t *testing.T) {
	cmsg := func(level, typ int32, data []byte) []byte {
		b := make([]byte, unix.CmsgSpace(len(data)))
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		h.Level, h.Type = level, typ
		h.SetLen(unix.CmsgLen(len(data)))
		copy(b[unix.CmsgLen(0):], data)
		return b
	}
	size := cmsg(unix.IPPROTO_UDP, unix.UDP_SEGMENT, binary.NativeEndian.AppendUint16(nil, 1200))
	ecn := cmsg(unix.IPPROTO_IP, unix.IP_TOS, []byte{2})
	for _, tc := range []struct {
		name string
		oob  []byte
		want int
	}{
		{"none", nil, 0}, {"alone", size, 1200}, {"first", append(append([]byte{}, size...), ecn...), 1200},
		{"last", append(append([]byte{}, ecn...), size...), 1200}, {"other", ecn, 0}, {"cut", size[:5], 0},
	} {
		if got := segmentSize(tc.oob); got != tc.want {
			t.Errorf("%s: %d", tc.name, got)
		}
	}
}
