package listen

import (
	"context"
	"net"
	"syscall"
)

// Socket listens at a path where nothing is, with mode 0600. Closing the listener removes
// what was made.
//
// The kernel makes the file with the mode that the socket has when it is bound, less the
// umask: set before, nobody sees another one, nothing that has the name is replaced, and no
// later step can be led to a file that somebody puts in its place.
func Socket(ctx context.Context, path string) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if bad := c.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), 0o600) }); bad != nil {
			return bad
		}
		return err
	}}
	return config.Listen(ctx, "unix", path)
}
