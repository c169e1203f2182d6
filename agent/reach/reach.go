// Package reach connects to what forwards of a session go to, and listens where
// they come from. It runs in the session process, as the target's user.
//
// The policy has said yes before, also to what no yes covers unless a rule names the very
// target (attack P4): sockets, and addresses at which clouds hand out credentials to
// whoever asks from inside. Here that is held against the address that is dialled,
// after names were resolved, so no name in anybody's DNS leads around it.
package reach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/tucdesk/tucdesk/internal/listen"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/policy"
)

// dialLimit is how long a connection may take; our choice, below the patience of
// browsers.
const dialLimit = 15 * time.Second

// guard is asked about each address before it is dialled, behind DNS. A rule that
// names the target opens a guarded address only where host is that address itself:
// whoever answers for a name would else choose what the rule has named.
func guard(host string, named bool) func(network, address string, _ syscall.RawConn) error {
	literal, err := netip.ParseAddr(host)
	named = named && err == nil
	return func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil || policy.Guarded(at.Addr()) && !(named && at.Addr().Unmap() == literal.Unmap()) {
			return policy.ErrMetadata
		}
		return nil
	}
}

// Dial connects to a TCP target. named says that a rule names it.
func Dial(ctx context.Context, host string, port uint16, named bool) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: dialLimit, Control: guard(host, named)}
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
	if err != nil {
		return nil, why("connecting", err)
	}
	return c.(*net.TCPConn), nil
}

// Listen listens on loopback, in both families where the machine has them, or
// where a rule names it at any address of the machine's. Port 0 is any; one that
// somebody has in either family is taken (attack P3). It returns the port.
func Listen(ctx context.Context, host string, port uint16, named bool) ([]net.Listener, uint16, error) {
	if !policy.Loopback(host) && !named {
		return nil, 0, policy.ErrListen
	}
	list, err := open(ctx, host, port)
	if err != nil {
		return nil, 0, why("listening", err)
	}
	return list, uint16(list[0].Addr().(*net.TCPAddr).Port), nil
}

func open(ctx context.Context, host string, port uint16) ([]net.Listener, error) {
	if policy.Loopback(host) {
		return listen.Loopback(ctx, port)
	}
	if host == policy.Everywhere {
		host = ""
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
	if err != nil {
		return nil, err
	}
	return []net.Listener{l}, nil
}

// why is an error as the operator is told: the system's reason without our words
// around it.
func why(doing string, err error) error {
	var e *refusal.Error
	if errors.As(err, &e) {
		return e
	}
	var dns *net.DNSError
	var sys syscall.Errno
	var timeout net.Error
	text := "it failed"
	switch {
	case errors.As(err, &dns):
		text = "no such name"
	case errors.As(err, &sys):
		text = sys.Error()
	case errors.As(err, &timeout) && timeout.Timeout():
		text = fmt.Sprintf("no answer within %v", dialLimit)
	}
	return refusal.New(refusal.Unreachable, "%s: %s", doing, text)
}
