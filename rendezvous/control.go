package rendezvous

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/rate"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
)

// Limits of a control channel; our choice where wire says nothing.
const (
	registerWithin = 5 * time.Second  // from the upgrade to a complete registration frame
	writeWithin    = 30 * time.Second // one message, also the largest roster on a slow line
	queueLength    = 64               // messages that wait to be written
	maxAsked       = 256              // questions to one agent without an answer yet
	maxConns       = 20_000           // control channels of this process
)

// conn is one agent's registered control channel. The handler's goroutine reads,
// one child writes, and both have ended when control returns.
type conn struct {
	s     *Server
	ws    *websocket.Conn
	team  *team
	agent key.ID
	name  string
	token statement.Signed
	cert  statement.Signed
	out   chan wire.Frame
	ctx   context.Context // ends with the channel; its cause is the last word to the agent
	end   context.CancelCauseFunc
	bound func() // takes the channel off the bus

	// showing keeps checkpoints in the order of their proofs, each of which begins
	// where the last one ended: held across the database until the frame is queued.
	showing sync.Mutex

	mu      sync.Mutex // guards the rest
	asked   map[uint64]chan wire.Frame
	nextID  uint64
	has     uint64      // roster version that the agent has or was sent
	seen    uint64      // size of the log it was shown last
	shown   []tree.Head // the newest checkpoints that it was shown, at most maxShown
	noted   time.Time   // when the database was last told that the agent is here
	checked uint64      // roster version by which cert was verified last
}

// control upgrades a call to an agent's channel and serves it to its end.
func (s *Server) control(c *call) (any, error) {
	if err := checkUpgrade(c.http); err != nil {
		return nil, err
	}
	channel, err := channelBinding(c.http.TLS)
	if err != nil {
		return nil, err
	}
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	ws, err := websocket.Accept(c.w, c.http, &websocket.AcceptOptions{
		Subprotocols: []string{wire.ControlProtocol}, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, errAnswered // by Accept
	}
	defer ws.CloseNow()
	ws.SetReadLimit(wire.MaxFrame)
	s.serveControl(ws, c, channel)
	return nil, errAnswered
}

// checkUpgrade refuses browsers: an agent sends no Origin, a page cannot leave it
// out (attack K3).
func checkUpgrade(r *http.Request) error {
	if len(r.Header["Origin"]) > 0 {
		return refusal.New(refusal.Forbidden, "the control channel is not for browsers")
	}
	if p := r.Header["Sec-Websocket-Protocol"]; len(p) != 1 || p[0] != wire.ControlProtocol {
		return refusal.New(refusal.BadRequest, "want the subprotocol %s", wire.ControlProtocol)
	}
	return nil
}

// enter counts a channel, also before it has registered, and refuses when there
// are too many.
func (s *Server) enter() (leave func(), err error) {
	s.connsMu.Lock()
	defer s.connsMu.Unlock()
	if s.conns >= maxConns {
		return nil, refusal.New(refusal.TooMany, "this server holds all the agents it can")
	}
	s.conns++
	return func() {
		s.connsMu.Lock()
		defer s.connsMu.Unlock()
		s.conns--
	}, nil
}

func (s *Server) serveControl(ws *websocket.Conn, c *call, channel key.Hash) {
	conn, err := s.admit(ws, c, channel)
	if err != nil {
		s.count("refused_" + string(codeOf(err)))
		s.log.Info("an agent's registration was refused", "request", c.id, "err", err)
		sayLast(ws, err)
		drain(ws)
		return
	}
	var writer sync.WaitGroup
	gone := make(chan struct{})
	writer.Go(func() { conn.write(gone) })
	conn.catchUp()
	err = conn.read()
	close(gone)
	conn.end(err)
	conn.bound()
	writer.Wait()
	s.log.Info("an agent has left", "team", conn.team.id.String(), "agent", conn.agent.String(), "why", context.Cause(conn.ctx))
}

// lastWithin is how long an agent that was told why it is cut off has to go by
// itself. Closing at once could take the words back from its socket. Our choice.
const lastWithin = time.Second

// drain waits for the peer to go.
func drain(ws *websocket.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), lastWithin)
	defer cancel()
	for {
		if _, _, err := ws.Read(ctx); err != nil {
			return
		}
	}
}

// sayLast tells a refused agent why, before the connection closes.
func sayLast(ws *websocket.Conn, err error) {
	r := wire.Refuse{Code: codeOf(err)}
	var named *refusal.Error
	if errors.As(err, &named) && r.Code == named.Code {
		r.Detail = named.Detail
	}
	body, _ := encodeBody(r)
	raw, _ := strict.Encode(wire.Frame{Type: wire.FrameRefuse, Body: body})
	ctx, cancel := context.WithTimeout(context.Background(), lastWithin)
	defer cancel()
	_ = ws.Write(ctx, websocket.MessageBinary, raw) // it may have gone already
}

// codeOf names an error on the wire; what has no name is our own fault.
func codeOf(err error) refusal.Code {
	if code := refusal.Of(err); code != "" {
		return code
	}
	return refusal.Unavailable
}

// read handles the agent's frames until the channel ends, and says why it did.
func (c *conn) read() error {
	allowance := rate.NewBucket(rateFrames, time.Now())
	for {
		// Not under c.ctx: the library closes the connection with the context of a
		// read, and the writer still has a last word to say.
		ctx, cancel := context.WithTimeout(context.Background(), wire.HeartbeatMissing)
		f, err := readFrame(ctx, c.ws)
		cancel()
		if err != nil {
			return err
		}
		c.s.count("frames")
		for !c.awaited(f) && !allowance.Take(rateFrames, time.Now()) {
			if err := c.pause(); err != nil {
				return err
			}
		}
		if err := c.handle(f); err != nil {
			return err
		}
	}
}

// awaited reports an answer to a question of ours. It does not count against the
// agent: how much it is asked is up to operators, and a few busy ones must not
// cost it its channel. Only what answers counts as one: the number of an open
// question on other frames must not buy a flood.
func (c *conn) awaited(f wire.Frame) bool {
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
func (c *conn) pause() error {
	t := time.NewTimer(time.Duration(float64(time.Second) / rateFrames.PerSecond))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
}

// readFrame reads one binary message of at most wire.MaxFrame bytes.
func readFrame(ctx context.Context, ws *websocket.Conn) (wire.Frame, error) {
	typ, raw, err := ws.Read(ctx)
	if err != nil {
		if errors.Is(err, websocket.ErrMessageTooBig) {
			return wire.Frame{}, refusal.New(refusal.TooLarge, "a frame has at most %d bytes", wire.MaxFrame)
		}
		return wire.Frame{}, refusal.New(refusal.Unreachable, "the agent's connection ended")
	}
	if typ != websocket.MessageBinary {
		return wire.Frame{}, refusal.New(refusal.ProtocolError, "frames are binary messages")
	}
	return decodeFrame(raw)
}

func decodeFrame(raw []byte) (wire.Frame, error) {
	var f wire.Frame
	if err := strict.Decode(raw, &f); err != nil || f.Type == "" {
		return wire.Frame{}, refusal.New(refusal.ProtocolError, "a frame that cannot be read")
	}
	return f, nil
}

// handle is what an agent may say. Nothing in a frame names the agent or its
// team: both are the registration's (attack K5).
func (c *conn) handle(f wire.Frame) error {
	switch f.Type {
	case wire.FrameAccept, wire.FrameRefuse:
		return c.answer(f)
	case wire.FrameHeartbeat:
		var h wire.HeartbeatReply
		if err := strict.Decode(f.Body, &h); err != nil {
			return err
		}
		c.takeCosignature(h.Cosigned)
		return c.alive()
	case wire.FrameRoster:
		var want wire.RosterWant
		if err := strict.Decode(f.Body, &want); err != nil {
			return err
		}
		return c.wants(want)
	case wire.FrameAudit:
		var batch wire.AuditEntries
		if err := strict.Decode(f.Body, &batch); err != nil {
			return err
		}
		return c.takeAudit(batch)
	case wire.FrameRelay:
		return c.renew(f)
	}
	return refusal.New(refusal.ProtocolError, "a frame that an agent does not send")
}

// answer delivers to whoever asked. An answer to nothing is dropped: the asker
// may just have given up.
func (c *conn) answer(f wire.Frame) error {
	c.mu.Lock()
	ch := c.asked[f.ID]
	delete(c.asked, f.ID)
	c.mu.Unlock()
	if ch != nil {
		ch <- f // has room for exactly this one
	}
	return nil
}

// Ask implements bus.Conn.
func (c *conn) Ask(ctx context.Context, f wire.Frame) (wire.Frame, error) {
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

func (c *conn) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.asked, id)
}

// Tell implements bus.Conn.
func (c *conn) Tell(f wire.Frame) {
	select {
	case c.out <- f:
	case <-c.ctx.Done():
	default:
		c.end(refusal.New(refusal.TooMany, "the agent does not read"))
	}
}

// Displace implements bus.Conn.
func (c *conn) Displace() {
	c.end(refusal.New(refusal.KeyInUse, "another connection has registered this agent"))
}

func (c *conn) tell(typ wire.FrameType, id uint64, v any) {
	body, err := encodeBody(v)
	if err != nil {
		c.end(err)
		return
	}
	c.Tell(wire.Frame{Type: typ, ID: id, Body: body})
}

// write sends what is queued and a heartbeat whenever one is due, until the
// channel ends; then it says why, waits until read is gone, but not long, and
// closes.
func (c *conn) write(gone <-chan struct{}) {
	tick := time.NewTicker(wire.HeartbeatEvery)
	defer tick.Stop()
	for {
		select {
		case f := <-c.out:
			c.send(f)
		case <-tick.C:
			c.beat()
		case <-c.ctx.Done():
			c.lastCuts()
			sayLast(c.ws, context.Cause(c.ctx))
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
func (c *conn) lastCuts() {
	ctx, cancel := context.WithTimeout(context.Background(), lastWithin)
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

func (c *conn) send(f wire.Frame) {
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
