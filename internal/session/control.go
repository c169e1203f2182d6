package session

import (
	"encoding/binary"
	"sync"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/transport"
)

// controlSender is the operator's end of the control channel, opened when it is
// first needed.
type controlSender struct {
	mu sync.Mutex
	w  *messageWriter // guarded by mu
}

// sendControl sends a request about the channel whose stream has that number.
func (c *Conn) sendControl(id uint64, body []byte) error {
	c.control.mu.Lock()
	defer c.control.mu.Unlock()
	if c.control.w == nil {
		s, err := c.openStream(c.ctx, nameControl)
		if err != nil {
			return err
		}
		c.control.w = &messageWriter{s: s}
	}
	return c.cause(c.control.w.write(msgRequest, binary.BigEndian.AppendUint64(nil, id), body))
}

// channelTable finds the agent's channels by the number of their stream.
type channelTable struct {
	mu   sync.Mutex
	m    map[uint64]*ServerChannel // guarded by mu
	used bool                      // guarded by mu: the control channel is open
}

func (t *channelTable) add(ch *ServerChannel) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m == nil {
		t.m = make(map[uint64]*ServerChannel)
	}
	t.m[ch.stream.ID()] = ch
}

func (t *channelTable) remove(ch *ServerChannel) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.m, ch.stream.ID())
}

func (t *channelTable) find(id uint64) *ServerChannel {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.m[id]
}

// takeControl allows one control channel per session.
func (t *channelTable) takeControl() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.used
	t.used = true
	return !was
}

// readControl runs at the agent until the session ends. A request for a channel
// that has just ended is no fault.
func (c *Conn) readControl(s *transport.Stream, r *messageReader) {
	if !c.channels.takeControl() {
		c.refuseChannel(s)
		return
	}
	for {
		t, body, err := r.next()
		if err == nil {
			err = c.controlled(t, body)
		}
		if refusal.Of(err) == refusal.ProtocolError {
			c.fail(err)
		}
		if err != nil {
			s.Reset(resetProtocol)
			return
		}
	}
}

func (c *Conn) controlled(t messageType, body []byte) error {
	p := parser{b: body}
	id := p.uint64()
	if t != msgRequest || p.bad {
		return errMessage
	}
	r, err := parseRequest(p.b)
	if err != nil {
		return err
	}
	switch r.(type) {
	case WindowChange, SignalRequest:
	default:
		return errMessage
	}
	if ch := c.channels.find(id); ch != nil {
		ch.deliver(r)
	}
	return nil
}
