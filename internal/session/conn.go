package session

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tucdesk/tucdesk/crypto/handshake"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/seal"
	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/internal/path"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/transport"
)

// ErrClosed is returned by calls on a session that ended normally.
var ErrClosed = errors.New("session: closed")

// Link carries datagrams to the other end, or loses them; *link.Link is the one
// outside of tests.
type Link interface {
	// WriteSegments sends b by one way: segments of size bytes, the last one
	// maybe shorter. Each begins with link.Headroom bytes that belong to the link;
	// all of b may be overwritten and is the caller's again on return. Losses, and
	// a way that is no more, are no errors.
	WriteSegments(v path.Via, b []byte, size int) error
	// WriteWhole sends one datagram behind its headroom to an address, whole or not
	// at all: by its arrival the path shows what it carries.
	WriteWhole(v path.Via, b []byte)
	// ReadBatch waits for datagrams. They are valid until the next call and may
	// be overwritten by the caller. Called from one goroutine at a time.
	ReadBatch(ctx context.Context) ([]link.Datagram, error)
	// Relays lists the ways by relays, and Candidates the addresses where this
	// end may be reached directly. Changed gets a value when they have changed.
	Relays() []link.RelayState
	Candidates() []path.Candidate
	Changed() <-chan struct{}
	// IsRelay reports whether an address is one of a relay's.
	IsRelay(netip.AddrPort) bool
	// Recheck makes the link look whether our place on a relay is still there.
	Recheck(v path.Via)
	// Close ends both. It may be called more than once.
	Close() error
}

// Stats counts what happened to the datagrams of a session.
type Stats struct {
	seal.Stats
	Stray   uint64          // datagrams that are neither sealed nor a known CONFIRM
	Streams transport.Stats // packets of streams that this end sent
}

// Conn is one session. Its methods may be called from any goroutine.
type Conn struct {
	side   seal.Side
	link   Link
	sealed *seal.Session
	log    *slog.Logger
	h4     key.Hash
	stray  atomic.Uint64

	// ctx is the life of the session; its cause says why it ended.
	ctx    context.Context
	cancel context.CancelCauseFunc
	ended  chan struct{}  // closed when everything is gone
	wg     sync.WaitGroup // channels, rekeying

	transport *transport.Conn // set before the session is handed out

	// Reading; owned by the transport's reader.
	reading   context.Context
	interrupt context.CancelFunc
	pending   []link.Datagram // of the last batch, not yet looked at
	from      arrival         // what the datagrams before have brought by one way
	now       time.Time
	stale     bool // packets may be from before a pause: path.Manager.Waking

	// Writing.
	wmu     sync.Mutex // serialises writes to link
	out     []byte     // guarded by wmu
	held    [][]byte   // guarded by wmu, at most maxHeld; see keepFirstLocked
	started bool       // guarded by wmu: READY is here
	copies  copies
	size    atomic.Int64 // of the datagrams of data, sealed, in bytes
	waiting atomic.Bool  // packets were dropped; the transport is to repeat them when that works

	paths  *paths
	resume time.Duration // how long to wait for a path

	ready     Ready         // operator: valid once readyCh is closed
	readyCh   chan struct{} // operator: closed by the first good READY
	readyOnce sync.Once

	m3        []byte        // agent: the CONFIRM that was accepted
	readyBody []byte        // agent: body of READY
	readyAt   time.Time     // agent, reader only: when READY was last sent
	rekeyed   chan struct{} // operator: a rekey was answered
	wanted    chan struct{} // operator: the agent asks for a rekey

	asked    chan *Asked         // channels of a kind that the other end opens
	accepted chan *ServerChannel // agent
	channels channelTable        // agent: for the control channel
	control  controlSender       // operator
}

// newConn takes link and the traffic keys over; keys are erased when it returns.
func newConn(side seal.Side, l Link, keys *handshake.Keys, log *slog.Logger) (*Conn, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	defer keys.Erase()
	now := time.Now()
	sealed, err := seal.New(keys, side, now)
	if err != nil {
		return nil, err
	}
	c := &Conn{
		side: side, link: l, sealed: sealed, log: log, h4: keys.H4(), now: now,
		ended: make(chan struct{}), readyCh: make(chan struct{}),
		rekeyed: make(chan struct{}, 1), wanted: make(chan struct{}, 1),
		accepted: make(chan *ServerChannel), asked: make(chan *Asked),
		paths: newPaths(side, l, now), resume: DefaultResume,
		copies: copies{wake: make(chan struct{}, 1)},
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.reading, c.interrupt = context.WithCancel(context.Background())
	return c, nil
}

func loadOf(many bool) transport.Load {
	if many {
		return transport.Many
	}
	return transport.Few
}

// run starts what lives as long as the session and takes it down in the end.
func (c *Conn) run(t *transport.Conn) {
	c.transport = t
	c.sealed.AllowResume(c.resume)
	c.wg.Go(c.keepKeysFresh)
	c.wg.Go(c.keepPaths)
	c.wg.Go(c.sendCopies)
	c.wg.Go(c.acceptStreams)
	go func() {
		select {
		case <-c.ctx.Done():
		case <-t.Done():
			c.cancel(ended(t.Err()))
		}
		c.teardown()
	}()
}

// ended translates why the streams ended.
func ended(err error) error {
	if err == nil || errors.Is(err, transport.ErrClosed) {
		return ErrClosed
	}
	return err
}

func (c *Conn) teardown() {
	// 1. Tell the other end. Twice, because nobody repeats it later; the
	// transport's own farewell is a third try.
	for range 2 {
		_ = c.sendFrame(frameClose, []byte(refusal.Of(context.Cause(c.ctx))))
	}
	// 2. End the streams; every channel wakes, and the reader stops.
	if c.transport != nil {
		_ = c.transport.Close()
	}
	c.interrupt()
	// 3. Erase the keys.
	c.sealed.Close()
	// 4. Give the link back.
	_ = c.link.Close()
	// 5. Wait for the channels.
	c.wg.Wait()
	close(c.ended)
}

// Close ends the session, erases its keys, closes the link and returns when all
// goroutines are gone. What has not been delivered is lost; a channel is
// finished in good order by Channel.Wait and ServerChannel.Exit. It may be
// called more than once.
func (c *Conn) Close() error { return c.CloseWith("") }

// CloseWith is Close with a reason for the other end; "" is a normal end. If the
// session is ending already, the first reason stays.
func (c *Conn) CloseWith(code refusal.Code) error {
	c.fail(closeError(code))
	<-c.ended
	return nil
}

// fail ends the session from anywhere, also from the reader.
func (c *Conn) fail(err error) { c.cancel(err) }

func closeError(code refusal.Code) error {
	if code == "" {
		return ErrClosed
	}
	return refusal.New(code, "the session was ended")
}

// Done is closed when the session has begun to end, for whatever reason.
func (c *Conn) Done() <-chan struct{} { return c.ctx.Done() }

// Err says why the session ended: nil while it lives, ErrClosed after a normal
// end by either side, otherwise mostly a *refusal.Error: Unreachable (no way to
// the other end for longer than the session is kept), ProtocolError, RekeyRequired, or the code of CloseWith.
func (c *Conn) Err() error { return context.Cause(c.ctx) }

// Ready returns what the agent said in READY; on the agent's side, what it says.
func (c *Conn) Ready() Ready { return c.ready }

// Stats returns the counts so far.
func (c *Conn) Stats() Stats {
	return Stats{Stats: c.sealed.Stats(), Stray: c.stray.Load(), Streams: c.transport.Stats()}
}

// Interrupt implements transport.Packets.
func (c *Conn) Interrupt() { c.interrupt() }

// poke makes a waiting goroutine look again, without waiting for it.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// cause prefers why the session ended over what a stream made of it.
func (c *Conn) cause(err error) error {
	switch {
	case err == nil, err == io.EOF:
		return err
	case c.ctx.Err() != nil:
		return context.Cause(c.ctx)
	case errors.Is(err, transport.ErrClosed):
		return ended(err) // the session is about to find out
	}
	return err
}
