package link

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v2"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// renewEvery is how often the permission is renewed. The relay forgets it after
// five minutes (RFC 8656, section 9). Our choice.
const renewEvery = time.Minute

// renewTries: the first may be answered with a fresh nonce.
const renewTries = 3

// serverName is the relay's address as far as pion is concerned. pion resolves
// IPv4 names only and sends to nothing but this; the socket knows the real one.
const serverName = "192.0.2.2:3478"

// turnClient is pion's client and what it needs around it.
type turnClient struct {
	server, peer net.Addr
	identity     identity

	mu      sync.Mutex
	client  *turn.Client   // guarded by mu; nil before establish
	relayed net.PacketConn // guarded by mu; nil before Allocate has succeeded
	closed  bool           // guarded by mu
	aborted bool           // guarded by mu
	mapped  netip.AddrPort // guarded by mu; where the relay sees us
}

// abort ends what pion does and will do. What it begins after its client was
// closed it would wait for in full, so it cannot begin anything: pionConn asks
// isAborted.
func (c *turnClient) abort() {
	c.mu.Lock()
	c.aborted = true
	client := c.client
	c.mu.Unlock()
	if client != nil {
		client.Close()
	}
}

func (c *turnClient) isAborted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.aborted
}

// see notes where the relay sees us, seen returns it.
func (c *turnClient) see(a netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mapped = a
}

func (c *turnClient) seen() netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mapped
}

func newTurnClient() *turnClient {
	return &turnClient{
		server: net.UDPAddrFromAddrPort(netip.MustParseAddrPort(serverName)),
		peer:   net.UDPAddrFromAddrPort(guard.PeerAddr()),
	}
}

// start makes pion's client; it sends nothing yet. What it signs with is nothing:
// the credential may come later, and pionConn signs everything anew.
func (c *turnClient) start(conn net.PacketConn) error {
	client, err := turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: serverName,
		Conn:           conn,
		Username:       "-",
		LoggerFactory:  &logging.DefaultLoggerFactory{Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled},
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.client = client
	return nil
}

// allocate asks twice: without credential, for the challenge, and with it.
func (c *turnClient) allocate() error {
	relayed, err := c.get().Allocate()
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.relayed = relayed
	return nil
}

func (c *turnClient) get() *turn.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.client
}

// handle shows pion one checked control message.
func (c *turnClient) handle(frame []byte) {
	if client := c.get(); client != nil {
		_, _ = client.HandleInbound(frame, c.server) // what it dislikes is lost, as in a network
	}
}

// close deletes the allocation and ends every transaction.
func (c *turnClient) close() {
	c.mu.Lock()
	relayed, closed := c.relayed, c.closed
	c.closed = true
	c.mu.Unlock()
	if !closed && relayed != nil {
		_ = relayed.Close() // sends a Refresh with lifetime 0 and does not wait
	}
	c.abort()
}

// pionConn is what pion takes for its socket. It only writes: what the relay
// sends reaches pion through handle.
type pionConn struct{ a *allocation }

// WriteTo sends one control message. The first one is padded, so that the relay
// may answer it (guard.PadRequest); the others are signed anew. The first that
// is signed waits for the gate: it is what makes an allocation.
func (c pionConn) WriteTo(b []byte, _ net.Addr) (int, error) {
	_, signed := guard.Find(b, guard.AttrIntegrity)
	if signed {
		if err := c.a.pass(); err != nil {
			return 0, err
		}
	}
	if c.a.turn.isAborted() {
		return 0, errDone
	}
	if err := c.a.leg.frame(guard.PadRequest(c.a.turn.identity.resign(b))); err != nil {
		return 0, err
	}
	if signed {
		c.a.follow()
	}
	return len(b), nil
}

// ReadFrom is never used by pion unless it is told to listen.
func (c pionConn) ReadFrom([]byte) (int, net.Addr, error) { return 0, nil, errDone }

// Close leaves the socket to the path.
func (c pionConn) Close() error { return nil }

// LocalAddr is not used by pion's client.
func (c pionConn) LocalAddr() net.Addr { return c.a.turn.server }

// Deadlines are not used by pion's client.

func (c pionConn) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (c pionConn) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (c pionConn) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

// renew gets the permission, which the channel brings too, and keeps it alive. An
// answer that is lost does no harm: the next try comes four times before the
// permission ends.
func (a *allocation) renew() {
	t := time.NewTicker(renewEvery)
	defer t.Stop()
	for {
		if err := a.turn.permit(); err != nil && !a.turn.isAborted() {
			a.log.Warn("relay does not renew our permission", "relay", a.name, "error", err)
		}
		select {
		case <-a.done:
			return
		case <-t.C:
		}
	}
}

// permit asks for the permission, once more if the nonce was too old.
func (c *turnClient) permit() (err error) {
	client := c.get()
	for range renewTries {
		if err = client.CreatePermission(c.peer); err == nil {
			return nil
		}
	}
	return err
}
