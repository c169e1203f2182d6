package udp

import (
	"encoding/binary"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// control builds one control message as the kernel would.
func control(level, typ int32, data []byte) []byte {
	b := make([]byte, unix.CmsgSpace(len(data)))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = level, typ
	h.SetLen(unix.CmsgLen(len(data)))
	copy(b[unix.CmsgLen(0):], data)
	return b
}

func TestJoinedSizeReadsBothWidthsAndIgnoresTheRest(t *testing.T) {
	as32 := binary.NativeEndian.AppendUint32(nil, 1200)
	as16 := binary.NativeEndian.AppendUint16(nil, 1200)
	other := control(unix.SOL_SOCKET, unix.SO_TIMESTAMP, make([]byte, 16))
	for _, tc := range []struct {
		name string
		oob  []byte
		n    int
		want int
	}{
		{"none", nil, 5000, 0},
		{"int", control(unix.IPPROTO_UDP, unix.UDP_GRO, as32), 5000, 1200},
		{"16 bits", control(unix.IPPROTO_UDP, unix.UDP_GRO, as16), 5000, 1200},
		{"behind another", append(other, control(unix.IPPROTO_UDP, unix.UDP_GRO, as32)...), 5000, 1200},
		{"one datagram", control(unix.IPPROTO_UDP, unix.UDP_GRO, as32), 1200, 0},
		{"empty", control(unix.IPPROTO_UDP, unix.UDP_GRO, nil), 5000, 0},
		{"cut", control(unix.IPPROTO_UDP, unix.UDP_GRO, as32)[:10], 5000, 0},
		{"other", other, 5000, 0},
	} {
		if got := joinedSize(tc.oob, tc.n); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
}

func TestErrorsThatEndOffload(t *testing.T) {
	for err, want := range map[error][2]bool{
		syscall.EIO: {true, true}, syscall.EOPNOTSUPP: {true, true}, syscall.EINVAL: {true, false},
		syscall.EMSGSIZE: {true, false}, syscall.EPERM: {false, false}, syscall.ENOBUFS: {false, false},
	} {
		if got := [2]bool{refusedOffload(err), lacksOffload(err)}; got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
}
