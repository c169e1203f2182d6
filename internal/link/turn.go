package link

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v2"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/credential"
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
}

// abort ends establish. What pion begins after its client was closed it would
// wait for in full, so it cannot begin anything: pionConn asks isAborted.
func (c *turnClient) abort() {
	c.mu.Lock()
	c.aborted = true
	client := c.client
	c.mu.Unlock()
	client.Close()
}

func (c *turnClient) isAborted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.aborted
}

func newTurnClient() *turnClient {
	return &turnClient{
		server: net.UDPAddrFromAddrPort(netip.MustParseAddrPort(serverName)),
		peer:   net.UDPAddrFromAddrPort(guard.PeerAddr()),
	}
}

func (c *turnClient) start(client *turn.Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.client = client
}

func (c *turnClient) use(relayed net.PacketConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.relayed = relayed
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
	client, relayed, closed := c.client, c.relayed, c.closed
	c.closed = true
	c.mu.Unlock()
	if closed || client == nil {
		return
	}
	if relayed != nil {
		_ = relayed.Close() // sends a Refresh with lifetime 0 and does not wait
	}
	client.Close()
}

// pionConn is what pion takes for its socket. It only writes: what the relay
// sends reaches pion through handle.
type pionConn struct{ a *allocation }

// WriteTo sends one control message. The first one is padded, so that the relay
// may answer it (guard.PadRequest); the others are signed anew.
func (c pionConn) WriteTo(b []byte, _ net.Addr) (int, error) {
	if c.a.turn.isAborted() {
		return 0, errDone
	}
	if err := c.a.leg.frame(guard.PadRequest(c.a.turn.identity.resign(b))); err != nil {
		return 0, err
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

// establish allocates, and returns when data can be sent and received.
func (a *allocation) establish(ctx context.Context, cred wire.Relay) error {
	client, err := turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: serverName,
		Conn:           pionConn{a},
		Username:       cred.Username,
		Password:       credential.Text(cred.Password),
		LoggerFactory:  &logging.DefaultLoggerFactory{Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled},
	})
	if err != nil {
		return err
	}
	a.turn.start(client)
	a.turn.identity.take(cred)
	// pion knows no contexts; what it waits for ends with its client.
	stop := context.AfterFunc(ctx, a.turn.abort)
	defer stop()
	relayed, err := client.Allocate()
	if err != nil {
		return firstError(ctx, err)
	}
	a.turn.use(relayed)
	if err := a.turn.permit(); err != nil {
		return firstError(ctx, err)
	}
	if !stop() {
		return ctx.Err()
	}
	a.ready.Store(true)
	a.wg.Go(a.renew)
	a.wg.Go(a.keepBound)
	return nil
}

func firstError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// renew keeps the permission alive. An answer that is lost does no harm: the
// next try comes four times before the permission ends.
func (a *allocation) renew() {
	t := time.NewTicker(renewEvery)
	defer t.Stop()
	for {
		select {
		case <-a.done:
			return
		case <-t.C:
		}
		if err := a.turn.permit(); err != nil {
			a.log.Warn("relay does not renew our permission", "relay", a.name, "error", err)
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
