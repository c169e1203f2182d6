package hop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/pion/dtls/v2"
	"github.com/pion/logging"
)

// Times of a handshake; our choice.
const (
	// flightInterval is when an unanswered flight is sent again. The library
	// neither measures the round trip nor backs off.
	flightInterval = 500 * time.Millisecond
	// handshakeWithin bounds a handshake: two round trips and several losses.
	handshakeWithin = 5 * time.Second
	// replayWindow is how many records one may come late.
	replayWindow = 256
)

// maxReadErrors of a client's socket in a row; then it is taken for broken. Our
// choice.
const maxReadErrors = 1000

// base is what both sides share: one suite, nothing of the library's own list (an
// empty list, for nil means its defaults), the extended master secret, no
// resumption, no log of secrets.
func base() *dtls.Config {
	return &dtls.Config{
		CipherSuites:           []dtls.CipherSuiteID{},
		CustomCipherSuites:     suites,
		ExtendedMasterSecret:   dtls.RequireExtendedMasterSecret,
		FlightInterval:         flightInterval,
		ReplayProtectionWindow: replayWindow,
		LoggerFactory:          silent(),
	}
}

// silent: the library logs what strangers send.
func silent() logging.LoggerFactory {
	return &logging.DefaultLoggerFactory{Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled}
}

// Conn is one DTLS connection. Each Write sends one datagram and each Read returns
// one; its buffer must hold it whole.
type Conn struct {
	*dtls.Conn
	filter *filter

	mu    sync.Mutex // guards everything below
	timer *time.Timer
	until time.Time // the deadline for reading
	late  bool      // the library has been told that it has passed
}

// Read returns the payload of the next record that opens.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == nil {
		c.filter.settle()
	}
	return n, err
}

// SetReadDeadline makes Read fail from t on, with an error whose Timeout method
// says so. The library's own starts a goroutine at every call, which outlives the
// connection; the guard sets one for every frame.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = t
	wait := time.Until(t)
	switch {
	case t.IsZero():
		if c.timer != nil {
			c.timer.Stop()
		}
	case wait <= 0:
		return c.expireLocked()
	case c.timer == nil:
		c.timer = time.AfterFunc(wait, c.expire)
	default:
		c.timer.Reset(wait)
	}
	if !c.late {
		return nil
	}
	c.late = false
	return c.Conn.SetReadDeadline(time.Time{})
}

// expire runs when the timer has; the deadline may have moved meanwhile.
func (c *Conn) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.until.IsZero() && !time.Now().Before(c.until) {
		_ = c.expireLocked()
	}
}

func (c *Conn) expireLocked() error {
	c.late = true
	return c.Conn.SetReadDeadline(time.Unix(1, 0))
}

// SetWriteDeadline has nothing to do: a datagram is sent or lost, at once.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline is SetReadDeadline.
func (c *Conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// Close tells the peer and ends the connection. It may be called more than once.
func (c *Conn) Close() error {
	err := c.SetReadDeadline(time.Time{})
	if e := c.Conn.Close(); !errors.Is(e, dtls.ErrConnClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// ClientDTLS runs the client's side of a handshake over conn, which keeps the
// boundaries of datagrams and which it owns from then on. It fails with
// refusal.PinMismatch if the server's key is not the one of the pin. ctx bounds
// the handshake only.
func ClientDTLS(ctx context.Context, conn net.Conn, pin Pin) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeWithin)
	defer cancel()
	under := &filtered{Conn: conn, filter: &filter{}}
	c, err := dtls.ClientWithContext(ctx, under, clientDTLS(pin))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("DTLS handshake: %w", err), conn.Close())
	}
	under.filter.finish()
	return &Conn{Conn: c, filter: under.filter}, nil
}

// filtered puts a filter between the network and a client.
type filtered struct {
	net.Conn
	filter *filter
}

// Read returns the next datagram of which the filter leaves anything. Once the
// handshake is over only the end of the socket is an error: an ICMP message, which
// anybody may forge, is none. The library asks for deadlines to be told apart.
func (c *filtered) Read(p []byte) (int, error) {
	for failed := 0; ; {
		n, err := c.Conn.Read(p)
		if err != nil {
			failed++
			if !c.filter.isDone() || failed == maxReadErrors || errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) {
				return 0, err
			}
			continue
		}
		failed = 0
		if rest := c.filter.pass(p[:n]); len(rest) > 0 {
			return len(rest), nil
		}
	}
}

// Write never fails for what the system says of one datagram: losses are what the
// layers above are for.
func (c *filtered) Write(p []byte) (int, error) {
	if _, err := c.Conn.Write(p); err != nil && (errors.Is(err, net.ErrClosed) || !c.filter.isDone()) {
		return 0, err
	}
	return len(p), nil
}

func (f *filter) isDone() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.done
}
