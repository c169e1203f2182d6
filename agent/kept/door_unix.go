//go:build unix

package kept

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// Door is where streams come through to a holder: one datagram of one byte for each,
// with the descriptor. The supervisor has one end, the holder the other.
type Door struct{ conn *net.UnixConn }

// NewDoor makes a door; theirs is the holder's end, for it to inherit.
func NewDoor() (ours *Door, theirs *os.File, err error) {
	a, b, err := pairOf(syscall.SOCK_DGRAM)
	if err != nil {
		return nil, nil, err
	}
	defer a.Close()
	if ours, err = OpenDoor(a); err != nil {
		_ = b.Close()
		return nil, nil, err
	}
	return ours, b, nil
}

// OpenDoor makes one of an inherited end, which it leaves open.
func OpenDoor(f *os.File) (*Door, error) {
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("opening the way to a holder: %v", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, errors.New("opening the way to a holder: not a socket of this machine")
	}
	return &Door{u}, nil
}

// NewStream makes the two ends of a stream.
func NewStream() (holder, session *os.File, err error) { return pairOf(syscall.SOCK_STREAM) }

// pairOf makes two joined sockets, close-on-exec before anybody can fork.
func pairOf(kind int) (a, b *os.File, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, kind, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("joining a session and a shell: %v", err)
	}
	for _, fd := range fds {
		syscall.CloseOnExec(fd)
		_ = syscall.SetNonblock(fd, true)
	}
	return os.NewFile(uintptr(fds[0]), "kept shell"), os.NewFile(uintptr(fds[1]), "kept shell"), nil
}

// passWithin is how long a holder may leave its door blocked; our choice.
const passWithin = time.Second

// Pass gives the holder its end of a stream; f stays open here. It fails when the
// holder does not come to the door.
func (d *Door) Pass(f *os.File) error {
	_ = d.conn.SetWriteDeadline(time.Now().Add(passWithin))
	raw, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("joining a session and a shell: %v", err)
	}
	var sent error
	err = raw.Control(func(fd uintptr) {
		_, _, sent = d.conn.WriteMsgUnix([]byte{1}, syscall.UnixRights(int(fd)), nil)
	})
	if err = errors.Join(err, sent); err != nil {
		return fmt.Errorf("joining a session and a shell: %v", err)
	}
	return nil
}

// Next waits for a stream.
func (d *Door) Next() (*os.File, error) {
	for {
		var b [1]byte
		oob := make([]byte, syscall.CmsgSpace(4))
		_, n, _, _, err := d.conn.ReadMsgUnix(b[:], oob)
		if err != nil {
			return nil, fmt.Errorf("waiting for a session: %v", err)
		}
		list, err := syscall.ParseSocketControlMessage(oob[:n])
		if err != nil || len(list) != 1 {
			continue
		}
		fds, err := syscall.ParseUnixRights(&list[0])
		if err != nil || len(fds) != 1 {
			continue
		}
		syscall.CloseOnExec(fds[0])
		_ = syscall.SetNonblock(fds[0], true)
		return os.NewFile(uintptr(fds[0]), "session"), nil
	}
}

// Close closes this end.
func (d *Door) Close() error { return d.conn.Close() }
