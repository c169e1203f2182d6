// Package channel is one agent's control channel as frames (protocol 2.11): how they
// are read and written, which answer belongs to which question, and how a channel
// ends. What frames mean, and whose channel it is, is up to who serves it.
//
//	reader (Serve's caller)  <- WebSocket <- agent
//	writer (one child)       -> WebSocket -> agent
//	Tell, Send, Ask          -> queue -> writer
//
// A channel ends with a cause, which is the last word to the agent. Nothing waits for
// an agent without a limit: a message has writeWithin, the queue an end, silence
// wire.HeartbeatMissing.
package channel

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/tucdesk/tucdesk/internal/rate"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/problem"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
)

// Limits of a channel; our choice where wire says nothing.
const (
	// QueueLength is how many messages may wait to be written.
	QueueLength = 64

	// FramesPerSecond and FramesAtOnce bound what an agent says unasked: as many in the
	// long run, and in one burst.
	FramesPerSecond = 20
	FramesAtOnce    = 200 // see FramesPerSecond

	writeWithin = 30 * time.Second // one message, also the largest roster on a slow line
	maxAsked    = 256              // questions to one agent without an answer yet

	// saidWithin is how long the last cuts may take to leave, and then the cause of the
	// end. A socket has room for them unless its agent does not read; what else takes time
	// is a busy server, and no agent may keep a session because of that.
	saidWithin = 3 * time.Second

	// lastWithin is how long an agent that was told why it is cut off has to go by
	// itself. Closing at once could take the words back from its socket.
	lastWithin = time.Second
)

// Conn is one channel. All methods are safe for concurrent use, but First and Serve,
// which are the reader's.
type Conn struct {
	ws  *websocket.Conn
	out chan wire.Frame
	ctx context.Context // ends with the channel; its cause is the last word to the agent
	end context.CancelCauseFunc

	mu     sync.Mutex // guards the rest
	asked  map[uint64]chan wire.Frame
	nextID uint64
}

// Check refuses what is no agent's upgrade, browsers among them: an agent sends no
// Origin, a page cannot leave it out (attack K3).
func Check(r *http.Request) error {
	if len(r.Header["Origin"]) > 0 {
		return refusal.New(refusal.Forbidden, "the control channel is not for browsers")
	}
	if p := r.Header["Sec-Websocket-Protocol"]; len(p) != 1 || p[0] != wire.ControlProtocol {
		return refusal.New(refusal.BadRequest, "want the subprotocol %s", wire.ControlProtocol)
	}
	return nil
}

// Accept makes a channel of a request that Check lets pass; it lives no longer than
// life. After an error the request has its answer. The caller calls Close.
func Accept(life context.Context, w http.ResponseWriter, r *http.Request) (*Conn, error) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols: []string{wire.ControlProtocol}, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(wire.MaxFrame)
	return newConn(life, ws), nil
}

func newConn(life context.Context, ws *websocket.Conn) *Conn {
	c := &Conn{ws: ws, out: make(chan wire.Frame, QueueLength), asked: map[uint64]chan wire.Frame{}}
	c.ctx, c.end = context.WithCancelCause(life)
	return c
}

// NewForTest makes a channel without a connection: frames can be queued, nothing
// reads or writes them.
func NewForTest(life context.Context) *Conn { return newConn(life, nil) }

// First reads one frame, before Serve; the channel ends with ctx.
func (c *Conn) First(ctx context.Context) (wire.Frame, error) { return c.next(ctx) }

// Refuse tells an agent why it is not served, and gives it a moment to go.
func (c *Conn) Refuse(why error) {
	c.sayLast(why)
	ctx, cancel := context.WithTimeout(context.Background(), lastWithin)
	defer cancel()
	for {
		if _, _, err := c.ws.Read(ctx); err != nil {
			return
		}
	}
}

// Close closes the connection and ends the channel. It may be called more than once.
func (c *Conn) Close() {
	c.end(context.Canceled)
	_ = c.ws.CloseNow() // which reports an earlier end
}

// Context ends with the channel; its cause says why.
func (c *Conn) Context() context.Context { return c.ctx }

// End ends the channel; the first cause counts, and is told to the agent.
func (c *Conn) End(cause error) { c.end(cause) }

// Handler is what a channel's frames mean. All are required, and are called on the
// goroutine of Serve but for Beat, which is called on the writer's.
type Handler struct {
	Begin func()                 // frames can be queued and will be written
	Seen  func()                 // a frame has come
	Frame func(wire.Frame) error // it is no answer; an error ends the channel with it
	Beat  func()                 // a heartbeat is due
	Gone  func()                 // nothing more will be read; it does not wait, or it would hold a dead agent's socket
}

// Serve handles the agent's frames until the channel ends, and says why it did. When
// it returns, nothing of the channel runs any more.
func (c *Conn) Serve(h Handler) error {
	var writer sync.WaitGroup
	gone := make(chan struct{})
	writer.Go(func() { c.write(gone, h.Beat) })
	h.Begin()
	err := c.read(h)
	close(gone)
	c.end(err)
	h.Gone()
	writer.Wait()
	return context.Cause(c.ctx)
}

func (c *Conn) read(h Handler) error {
	limit := rate.Rate{PerSecond: FramesPerSecond, Burst: FramesAtOnce}
	allowance := rate.NewBucket(limit, time.Now())
	for {
		// Not under c.ctx: the library closes the connection with the context of a
		// read, and the writer still has a last word to say.
		ctx, cancel := context.WithTimeout(context.Background(), wire.HeartbeatMissing)
		f, err := c.next(ctx)
		cancel()
		if err != nil {
			return err
		}
		h.Seen()
		for !c.awaited(f) && !allowance.Take(limit, time.Now()) {
			if err := c.pause(); err != nil {
				return err
			}
		}
		if f.Type == wire.FrameAccept || f.Type == wire.FrameRefuse {
			c.answer(f)
		} else if err := h.Frame(f); err != nil {
			return err
		}
	}
}

// awaited reports an answer to a question of ours. It does not count against the
// agent: how much it is asked is up to operators, and a few busy ones must not
// cost it its channel. Only what answers counts as one: the number of an open
// question on other frames must not buy a flood.
func (c *Conn) awaited(f wire.Frame) bool {
	if f.Type != wire.FrameAccept && f.Type != wire.FrameRefuse {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked[f.ID] != nil
}

// pause lets an agent that says too much wait for its next token. Nothing is read
// meanwhile, so a flood fills the agent's own socket, and an honest agent, which
// sends its log one batch at a time, makes larger batches.
func (c *Conn) pause() error {
	t := time.NewTimer(time.Second / FramesPerSecond)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
}

// next reads one binary message of at most wire.MaxFrame bytes.
func (c *Conn) next(ctx context.Context) (wire.Frame, error) {
	typ, raw, err := c.ws.Read(ctx)
	if err != nil {
		if errors.Is(err, websocket.ErrMessageTooBig) {
			return wire.Frame{}, refusal.New(refusal.TooLarge, "a frame has at most %d bytes", wire.MaxFrame)
		}
		return wire.Frame{}, refusal.New(refusal.Unreachable, "%s", ending(ctx, err))
	}
	if typ != websocket.MessageBinary {
		return wire.Frame{}, refusal.New(refusal.ProtocolError, "frames are binary messages")
	}
	return Decode(raw)
}

// ending says how a connection ended, for whoever reads the server's log: a machine
// that was stopped, one that went silent and a network that broke are looked for in
// different places.
func ending(ctx context.Context, err error) string {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return "nothing came from the agent in time"
	case errors.Is(err, io.EOF), websocket.CloseStatus(err) != -1:
		return "the agent closed the connection"
	}
	return "the agent's connection ended"
}

// Decode reads one frame; what its body holds is not looked at.
func Decode(raw []byte) (wire.Frame, error) {
	var f wire.Frame
	if err := strict.Decode(raw, &f); err != nil || f.Type == "" {
		return wire.Frame{}, refusal.New(refusal.ProtocolError, "a frame that cannot be read")
	}
	return f, nil
}

// Body makes a frame's body of v.
func Body(v any) (json.RawMessage, error) {
	raw, err := strict.Encode(v)
	return json.RawMessage(raw), err
}

// answer delivers to whoever asked. An answer to nothing is dropped: the asker
// may just have given up.
func (c *Conn) answer(f wire.Frame) {
	c.mu.Lock()
	ch := c.asked[f.ID]
	delete(c.asked, f.ID)
	c.mu.Unlock()
	if ch != nil {
		ch <- f // has room for exactly this one
	}
}

// Ask sends f with a number of its own and waits for the answer, until ctx or the
// channel ends. It is part of bus.Conn.
func (c *Conn) Ask(ctx context.Context, f wire.Frame) (wire.Frame, error) {
	ch := make(chan wire.Frame, 1)
	c.mu.Lock()
	if len(c.asked) >= maxAsked {
		c.mu.Unlock()
		return wire.Frame{}, refusal.New(refusal.TooMany, "the agent has too many questions to answer")
	}
	c.nextID++
	f.ID = c.nextID
	c.asked[f.ID] = ch
	c.mu.Unlock()
	defer c.forget(f.ID)
	if raw, err := strict.Encode(f); err != nil || len(raw) > wire.MaxFrame {
		return wire.Frame{}, refusal.New(refusal.TooLarge, "request and approvals do not fit into one frame of %d bytes", wire.MaxFrame)
	}
	c.Tell(f)
	select {
	case answer := <-ch:
		return answer, nil
	case <-c.ctx.Done():
		return wire.Frame{}, refusal.New(refusal.Offline, "the agent's connection ended")
	case <-ctx.Done():
		return wire.Frame{}, refusal.New(refusal.Unreachable, "the agent did not answer in time")
	}
}

func (c *Conn) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.asked, id)
}

// Tell queues f. A channel whose queue is full ends: its agent does not read. It is
// part of bus.Conn.
func (c *Conn) Tell(f wire.Frame) {
	if !c.Offer(f) && c.ctx.Err() == nil {
		c.end(refusal.New(refusal.TooMany, "the agent does not read"))
	}
}

// Offer queues f if there is room, and reports that; the channel goes on without. It
// is part of bus.Conn.
func (c *Conn) Offer(f wire.Frame) bool {
	select {
	case c.out <- f:
		return true
	default:
		return false
	}
}

// Send queues a frame with v as its body.
func (c *Conn) Send(typ wire.FrameType, id uint64, v any) {
	body, err := Body(v)
	if err != nil {
		c.end(err)
		return
	}
	c.Tell(wire.Frame{Type: typ, ID: id, Body: body})
}

// Displace ends the channel because a newer one has its agent. It is part of
// bus.Conn.
func (c *Conn) Displace() {
	c.end(refusal.New(refusal.KeyInUse, "another connection has registered this agent"))
}

// write sends what is queued, and has a heartbeat queued whenever one is due, until
// the channel ends; then it says why, waits until read is gone, but not long, and
// closes.
func (c *Conn) write(gone <-chan struct{}, beat func()) {
	tick := time.NewTicker(wire.HeartbeatEvery)
	defer tick.Stop()
	for {
		select {
		case f := <-c.out:
			c.send(f)
		case <-tick.C:
			beat()
		case <-c.ctx.Done():
			c.lastCuts()
			c.sayLast(context.Cause(c.ctx))
			select {
			case <-gone:
			case <-time.After(lastWithin):
			}
			_ = c.ws.CloseNow() // ends read
			return
		}
	}
}

// lastCuts sends the cuts that are queued when the channel ends, and nothing else:
// an agent that is cut off must not keep the sessions that were.
func (c *Conn) lastCuts() {
	ctx, cancel := context.WithTimeout(context.Background(), saidWithin)
	defer cancel()
	for {
		select {
		case f := <-c.out:
			if raw, err := strict.Encode(f); f.Type == wire.FrameCut && err == nil {
				_ = c.ws.Write(ctx, websocket.MessageBinary, raw) // it may have gone already
			}
		default:
			return
		}
	}
}

// sayLast tells the agent why its channel ends.
func (c *Conn) sayLast(why error) {
	r := wire.Refuse{Code: problem.Code(why)}
	var named *refusal.Error
	if errors.As(why, &named) && r.Code == named.Code {
		r.Detail = named.Detail
	}
	body, _ := Body(r)
	raw, _ := strict.Encode(wire.Frame{Type: wire.FrameRefuse, Body: body})
	ctx, cancel := context.WithTimeout(context.Background(), saidWithin)
	defer cancel()
	_ = c.ws.Write(ctx, websocket.MessageBinary, raw) // it may have gone already
}

func (c *Conn) send(f wire.Frame) {
	if len(f.Body) == 0 {
		f.Body = json.RawMessage("null")
	}
	raw, err := strict.Encode(f)
	if err != nil {
		c.end(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), writeWithin)
	defer cancel()
	if err := c.ws.Write(ctx, websocket.MessageBinary, raw); err != nil {
		c.end(refusal.New(refusal.Unreachable, "the agent's connection ended"))
	}
}
