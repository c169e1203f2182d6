package reach

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/policy"
)

// maxLinks bounds the system's own links that lead to one another; our choice.
const maxLinks = 8

// errLinked is for paths that lead through links: a rule that names a socket opens what is
// at that very path, not what somebody who may write in a folder of it has made it mean.
var errLinked = refusal.New(refusal.PolicyDenied, "the socket's path leads through a symbolic link, and a rule opens none but the socket at the very path: it has to name where that really is")

// DialSocket connects to a socket of this machine, where a rule names its path. Too
// many sockets run commands for whoever reaches them, as root or as the user (D-Bus,
// systemd, engines of containers), for a list of them ever to be whole. What is connected
// to lies at that path itself: links in it, other than the system's own, are refused.
func DialSocket(ctx context.Context, path string, named bool) (*net.UnixConn, error) {
	if !named {
		return nil, policy.ErrSocket
	}
	if _, ok := policy.SocketTarget(path); !ok {
		return nil, refusal.New(refusal.BadArgument, "not the absolute path of a socket")
	}
	d := net.Dialer{Timeout: dialLimit}
	c, err := dialThere(ctx, &d, path)
	if err != nil {
		return nil, why("connecting", err)
	}
	return c.(*net.UnixConn), nil
}

// ListenSocket listens at a path that is not there yet and that a rule names, for this user
// alone: programs trust whoever listens where they look for a service, and as root that can
// be any place. What was made is removed when the listener is closed. On Windows, where a
// mode keeps nobody out of a socket, it refuses. As with DialSocket, no link leads to the
// folder but the system's own.
func ListenSocket(ctx context.Context, path string, named bool) (net.Listener, error) {
	if !named {
		return nil, policy.ErrListenSocket
	}
	if runtime.GOOS == "windows" {
		return nil, refusal.New(refusal.Unavailable, "Windows has no sockets that are one user's alone: listen at a port")
	}
	if _, ok := policy.SocketTarget(path); !ok {
		return nil, refusal.New(refusal.BadArgument, "not the absolute path of a socket")
	}
	l, err := listenThere(ctx, path)
	if err != nil {
		return nil, why("listening", err)
	}
	return l, nil
}

// straight has look go along path, from the root of its disk on, and where the system's own
// links lead from there. look returns how many elements lead to the first link that it
// meets, or 0 when it has met none and is done.
func straight(path string, look func(root string, elements []string) (int, error)) error {
	for range maxLinks {
		root := filepath.VolumeName(path) + string(filepath.Separator)
		if len(path) < len(root) {
			break
		}
		elements := strings.Split(path[len(root):], string(filepath.Separator))
		n, err := look(root, elements)
		if n == 0 || err != nil {
			return err
		}
		if path, err = systemLink(root, elements[:n], elements[n:]); err != nil {
			return err
		}
	}
	return errLinked
}

// systemLink is where a link leads that a system has from its installation on: one in the
// root of the disk, such as /tmp, and /var/run. Nobody but root makes those, and no copy
// takes away what leads to a socket that a rule names (package files). All others are
// refused, and so is what is at the path itself.
func systemLink(root string, link, rest []string) (string, error) {
	at := filepath.Join(root, filepath.Join(link...))
	if len(rest) == 0 || len(link) > 1 && at != "/var/run" {
		return "", errLinked
	}
	to, err := os.Readlink(at)
	if errors.Is(err, fs.ErrNotExist) {
		return "", errLinked // it was one a moment ago
	}
	if err != nil {
		return "", err
	}
	if !filepath.IsAbs(to) {
		to = filepath.Join(filepath.Dir(at), to)
	}
	return filepath.Join(to, filepath.Join(rest...)), nil
}
