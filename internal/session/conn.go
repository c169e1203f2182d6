package session

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tucdesk/tucdesk/crypto/handshake"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/seal"
	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/transport"
)

// ErrClosed is returned by calls on a session that ended normally.
var ErrClosed = errors.New("session: closed")

// Link carries datagrams to the other end, or loses them; *link.Link is the one
// outside of tests.
type Link interface {
	// WriteSegments sends b: segments of size bytes, the last one maybe shorter.
	// Each begins with link.Headroom bytes that belong to the link, which may
	// overwrite them. b is the caller's again on return. Losses are no errors.
	WriteSegments(b []byte, size int) error
	// ReadBatch waits for datagrams. They are valid until the next call and may
	// be overwritten by the caller. Called from one goroutine at a time.
	ReadBatch(ctx context.Context) ([][]byte, error)
	// Close ends both. It may be called more than once.
	Close() error
}

// Stats counts what happened to the datagrams of a session.
type Stats struct {
	seal.Stats
	Stray uint64 // datagrams that are neither sealed nor a known CONFIRM
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
	pending   [][]byte // datagrams of the last batch, not yet looked at
	now       time.Time

	// Writing.
	wmu sync.Mutex // serialises writes to link
	out []byte     // guarded by wmu
	// held are the transport's first packets, which go out again with every
	// repeated CONFIRM: an agent that was not on the relay yet missed both, and
	// the transport by itself would try again much later. Operator, until READY.
	held     [][]byte // guarded by wmu, at most maxHeld
	heldOver bool     // guarded by wmu: READY is here, hold no more

	ready     Ready         // operator: valid once readyCh is closed
	readyCh   chan struct{} // operator: closed by the first good READY
	readyOnce sync.Once

	m3        []byte        // agent: the CONFIRM that was accepted
	readyBody []byte        // agent: body of READY
	readyAt   time.Time     // agent, reader only: when READY was last sent
	rekeyed   chan struct{} // operator: a rekey was answered
	wanted    chan struct{} // operator: the agent asks for a rekey

	accepted chan *ServerChannel // agent
	channels channelTable        // agent: for the control channel
	control  controlSender       // operator
}

// newConn takes link and the traffic keys over; keys are erased when it returns.
func newConn(side seal.Side, l Link, keys *handshake.Keys, log *slog.Logger) (*Conn, [32]byte, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	exporter := keys.Exporter()
	defer keys.Erase()
	now := time.Now()
	sealed, err := seal.New(keys, side, now)
	if err != nil {
		return nil, exporter, err
	}
	c := &Conn{
		side: side, link: l, sealed: sealed, log: log, h4: keys.H4(), now: now,
		ended: make(chan struct{}), readyCh: make(chan struct{}),
		rekeyed: make(chan struct{}, 1), wanted: make(chan struct{}, 1),
		accepted: make(chan *ServerChannel),
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.reading, c.interrupt = context.WithCancel(context.Background())
	return c, exporter, nil
}

// run starts what lives as long as the session and takes it down in the end.
func (c *Conn) run(t *transport.Conn) {
	c.transport = t
	c.wg.Go(c.keepKeysFresh)
	if c.side == seal.Agent {
		c.wg.Go(c.acceptStreams)
	}
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
	switch {
	case errors.Is(err, transport.ErrDead):
		return refusal.New(refusal.Unreachable, "the other end has been silent for %v", transport.DeadAfter)
	case err == nil, errors.Is(err, transport.ErrClosed):
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
// end by either side, otherwise mostly a *refusal.Error: Unreachable (90 s of
// silence), ProtocolError, RekeyRequired, or the code of CloseWith.
func (c *Conn) Err() error { return context.Cause(c.ctx) }

// Ready returns what the agent said in READY; on the agent's side, what it says.
func (c *Conn) Ready() Ready { return c.ready }

// Stats returns the counts so far.
func (c *Conn) Stats() Stats { return Stats{Stats: c.sealed.Stats(), Stray: c.stray.Load()} }

// Interrupt implements transport.Packets.
func (c *Conn) Interrupt() { c.interrupt() }

// maxWrite is how many packets are sealed before the link gets them: what the
// transport hands over at once, and what fits into one system call.
const maxWrite = 40

// maxHeld packets are the transport's first flight; our choice.
const maxHeld = 4

// WritePackets implements transport.Packets: it seals each packet in place, in
// the buffer that the link sends.
func (c *Conn) WritePackets(p []byte, size int) error {
	now := time.Now()
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.holdLocked(p, size)
	for len(p) > 0 {
		b := c.out[:0]
		for i := 0; i < maxWrite && len(p) > 0; i++ {
			n := min(size, len(p))
			var err error
			if b, err = c.sealFrame(b, framePacket, p[:n], now); err != nil {
				return err
			}
			p = p[n:]
		}
		c.out = b
		if err := c.link.WriteSegments(b, segment(size)); err != nil {
			c.linkLost()
			return err
		}
	}
	return nil
}

// linkLost ends the session because its only path has: a relay that closed the
// connection must not look like a normal end.
func (c *Conn) linkLost() {
	c.fail(refusal.New(refusal.Unreachable, "the connection to the relay was lost"))
}

// holdLocked keeps a copy of the transport's first packets; see Conn.held.
func (c *Conn) holdLocked(p []byte, size int) {
	for ; c.side == seal.Operator && !c.heldOver && len(p) > 0 && len(c.held) < maxHeld; p = p[min(size, len(p)):] {
		c.held = append(c.held, bytes.Clone(p[:min(size, len(p))]))
	}
}

// releaseHeld ends the holding.
func (c *Conn) releaseHeld() {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.held, c.heldOver = nil, true
}

// sendHeld sends the held packets again, sealed anew.
func (c *Conn) sendHeld() error {
	c.wmu.Lock()
	held := c.held
	c.wmu.Unlock()
	for _, p := range held {
		if err := c.sendFrame(framePacket, p); err != nil {
			return err
		}
	}
	return nil
}

// segment is the length of the segment that carries a frame body of n bytes.
func segment(n int) int {
	n += frameHead
	return link.Headroom + seal.Overhead + n + padding(n)
}

// sealFrame appends headroom and the sealed datagram of one frame to b. The
// plaintext is written where the ciphertext will stand, so nothing is copied.
func (c *Conn) sealFrame(b []byte, t frameType, body []byte, now time.Time) ([]byte, error) {
	start := len(b) + link.Headroom
	b = append(b, make([]byte, link.Headroom+seal.HeaderSize)...)
	if t != framePadding {
		b = appendFrame(b, t, body)
	}
	plain := len(b) - start - seal.HeaderSize
	b = append(b, make([]byte, padding(plain))...)
	b, err := c.sealed.Seal(b[:start], b[start+seal.HeaderSize:], now)
	if err != nil {
		c.fail(err)
		return nil, err
	}
	return b, nil
}

// sendFrame sends one frame in a datagram of its own.
func (c *Conn) sendFrame(t frameType, body []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	b, err := c.sealFrame(c.out[:0], t, body, time.Now())
	if err != nil {
		return err
	}
	c.out = b
	return c.link.WriteSegments(b, len(b))
}

// sendPlain sends a datagram that is not sealed here: CONFIRM.
func (c *Conn) sendPlain(datagram []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	b := append(c.out[:0], make([]byte, link.Headroom)...)
	b = append(b, datagram...)
	c.out = b
	return c.link.WriteSegments(b, len(b))
}

// ReadPackets implements transport.Packets: it reads the link, opens datagrams
// into the transport's buffers and handles every other frame on the way.
func (c *Conn) ReadPackets(pkts []transport.Packet) (int, error) {
	for n := 0; ; {
		for len(c.pending) > 0 && n < len(pkts) {
			d := c.pending[0]
			c.pending = c.pending[1:]
			if c.receive(&pkts[n], d) {
				n++
			}
		}
		if n > 0 {
			return n, nil
		}
		batch, err := c.link.ReadBatch(c.reading)
		if err != nil {
			if c.reading.Err() == nil {
				c.linkLost()
			}
			return 0, err
		}
		c.pending, c.now = batch, time.Now()
	}
}

// receive handles one datagram and reports whether it held a packet. What does
// not open is dropped without a word: anybody can have sent it.
func (c *Conn) receive(p *transport.Packet, datagram []byte) bool {
	if len(datagram) > MaxDatagram || len(datagram) == 0 {
		c.stray.Add(1)
		return false
	}
	if datagram[0] != seal.Type {
		c.plain(datagram)
		return false
	}
	plaintext, _, err := c.sealed.Open(p.Buf[:0], datagram, c.now)
	if err != nil {
		return false
	}
	p.Data, err = c.frames(plaintext)
	if err != nil {
		c.fail(err)
		return false
	}
	return p.Data != nil
}

// plain handles what is not sealed: a repeated CONFIRM gets READY again, but
// not faster than an honest operator repeats it (attack B11).
func (c *Conn) plain(datagram []byte) {
	if c.side != seal.Agent || string(datagram) != string(c.m3) {
		c.stray.Add(1)
		return
	}
	if now := time.Now(); now.Sub(c.readyAt) >= confirmMin/2 {
		c.readyAt = now
		_ = c.sendFrame(frameReady, c.readyBody)
	}
}

// frames handles all frames of a plaintext and returns the packet among them.
func (c *Conn) frames(b []byte) (packet []byte, err error) {
	if len(b)%padAtLeast != 0 || len(b) > maxPlaintext {
		return nil, errFrame
	}
	for len(b) > 0 {
		var f frame
		if f, b, err = nextFrame(b); err != nil {
			return nil, err
		}
		if f.typ == framePacket {
			if packet != nil || len(f.body) == 0 {
				return nil, errFrame
			}
			packet = f.body
			continue
		}
		if err := c.handle(f); err != nil {
			return nil, err
		}
	}
	return packet, nil
}

func (c *Conn) handle(f frame) error {
	operator := c.side == seal.Operator
	switch {
	case f.typ == framePadding, f.typ&skippable != 0:
		return nil
	case f.typ == frameReady && operator:
		return c.gotReady(f.body)
	case f.typ == frameRekey && !operator:
		return c.answerRekey(f.body)
	case f.typ == frameRekeyed && operator:
		return c.finishRekey(f.body)
	case f.typ == frameWanted && operator && len(f.body) == 0:
		poke(c.wanted)
		return nil
	case f.typ == frameClose:
		return c.gotClose(f.body)
	}
	return errFrame
}

func (c *Conn) gotReady(body []byte) error {
	h4, ready, err := parseReady(body)
	if err != nil {
		return err
	}
	if h4 != c.h4 {
		return refusal.New(refusal.HandshakeFailed, "the agent has confirmed another handshake")
	}
	c.readyOnce.Do(func() {
		c.ready = ready
		close(c.readyCh)
	})
	return nil
}

func (c *Conn) gotClose(body []byte) error {
	if !validCode(string(body)) {
		return errFrame
	}
	if len(body) == 0 {
		return ErrClosed
	}
	return &refusal.Error{Code: refusal.Code(body), Detail: "the other end has ended the session"}
}

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
	case errors.Is(err, transport.ErrClosed), errors.Is(err, transport.ErrDead):
		return ended(err) // the session is about to find out
	}
	return err
}
