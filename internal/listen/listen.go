// Package listen opens listeners that nobody else gets a share of: ports of loopback in
// both of its families, and sockets in files that are one user's alone. Both ends of a
// forward open theirs here.
//
// What would get a share, and how it is refused (attack P3):
//
//   - Whoever has the port in the other family would be reached by half of the programs
//     that connect to "localhost". Such a port is taken.
//   - Whoever connects to a socket in a file before its mode is set. There is no such
//     moment.
package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"syscall"
)

// families are the addresses that "localhost" means, whatever the resolver says.
var families = [...]string{"127.0.0.1", "::1"}

// choices is how often the system chooses a port again that turns out to be somebody's in
// the other family, of which it knows nothing when it chooses; our choice.
const choices = 8

// Loopback listens at a port of loopback, in each of its families that the system has. It
// returns at least one listener, all at one port, or an error in which syscall.EADDRINUSE
// is found where somebody has the port in either. Port 0 is any that is free in both. A
// family that is there and cannot be listened in, for whatever reason, is an error: what
// is left free somebody else can take.
func Loopback(ctx context.Context, port uint16) (list []net.Listener, err error) {
	for range choices {
		list, err = both(ctx, port)
		if port != 0 || !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return list, err
}

func both(ctx context.Context, port uint16) (list []net.Listener, err error) {
	var config net.ListenConfig
	for _, host := range families {
		l, bad := config.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
		switch {
		case bad == nil:
			list = append(list, l)
			port = uint16(l.Addr().(*net.TCPAddr).Port)
		case !isAny(bad, absentErrors):
			for _, l := range list {
				_ = l.Close()
			}
			return nil, inUse(bad)
		case err == nil:
			err = bad
		default:
			err = fmt.Errorf("%w; %w", err, bad)
		}
	}
	if list != nil {
		return list, nil
	}
	return nil, err
}

func isAny(err error, of []error) bool {
	return slices.ContainsFunc(of, func(e error) bool { return errors.Is(err, e) })
}

// inUse is err so that syscall.EADDRINUSE is found in it on every system, where it is of a
// port that somebody has.
func inUse(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) || !isAny(err, takenErrors) {
		return err
	}
	return fmt.Errorf("%w: %w", syscall.EADDRINUSE, err)
}
