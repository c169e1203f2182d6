package reach

import (
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"

	"github.com/tucdesk/tucdesk/internal/listen"
)

// oPath is O_PATH of open(2): a name for what is there, which asks for no right to it.
const oPath = 0x200000

// dialThere connects to what lies at path, by a descriptor: each element is opened from the
// one before, never through a link, so that between the look and the connection nobody can
// exchange anything. The kernel asks for the same rights as for the path itself.
func dialThere(ctx context.Context, d *net.Dialer, path string) (c net.Conn, err error) {
	err = straight(path, func(root string, elements []string) (int, error) {
		fd, link, err := descend(root, elements)
		if err != nil || link > 0 {
			return link, err
		}
		defer syscall.Close(fd)
		c, err = d.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d", fd))
		return 0, err
	})
	return c, err
}

// listenThere listens at path, in the folder that lies there itself. The descriptor of the
// folder is how its socket is found again when the listener is closed, and what lists of the
// machine's sockets (ss -x) show in place of the folder's name.
func listenThere(ctx context.Context, path string) (l net.Listener, err error) {
	err = straight(path, func(root string, elements []string) (int, error) {
		last := len(elements) - 1
		dir, link, err := descend(root, elements[:last])
		if err != nil || link > 0 {
			return link, err
		}
		made, err := listen.Socket(ctx, fmt.Sprintf("/proc/self/fd/%d/%s", dir, elements[last]))
		if err != nil {
			_ = syscall.Close(dir)
			return 0, err
		}
		l = &listener{made, sync.OnceValue(func() error {
			defer syscall.Close(dir)
			return made.Close()
		})}
		return 0, nil
	})
	return l, err
}

// listener keeps its folder open.
type listener struct {
	net.Listener
	close func() error
}

// Close takes the socket away; it may be called more than once.
func (l *listener) Close() error { return l.close() }

// descend opens the last of elements, or says how many lead to the first that is a link.
func descend(root string, elements []string) (fd, link int, err error) {
	fd, err = syscall.Open(root, oPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return -1, 0, err
	}
	for i, name := range elements {
		next, err := syscall.Openat(fd, name, oPath|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
		_ = syscall.Close(fd)
		if err != nil {
			return -1, 0, err
		}
		var st syscall.Stat_t
		if err := syscall.Fstat(next, &st); err != nil || st.Mode&syscall.S_IFMT == syscall.S_IFLNK {
			_ = syscall.Close(next)
			return -1, i + 1, err
		}
		fd = next
	}
	return fd, 0, nil
}
