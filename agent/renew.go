package agent

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/agent/pair"
	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/client"
)

// keepRelay renews the session's relay credential until leave is called, which
// waits. The supervisor asks, because the session process knows no server, and
// hands on what it got.
func (s *live) keepRelay() (leave func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var keeper sync.WaitGroup
	keeper.Go(func() {
		link.Keep(ctx, s.question.Offer.Lease, s.renewRelay, func(left time.Duration, err error) {
			s.agent.log.Warn("the relay credential of a session cannot be renewed", "session", s.question.Request.Session.String(),
				"ends_in", left.Round(time.Second).String(), "err", err)
		})
	})
	return func() {
		cancel()
		keeper.Wait()
	}
}

func (s *live) renewRelay(ctx context.Context, have wire.Lease) (wire.Lease, error) {
	var renewed wire.RelayRenewed
	f, err := s.agent.ask(ctx, wire.FrameRelay, wire.RelayWant{Ticket: have.Ticket})
	if err != nil {
		return wire.Lease{}, err
	}
	if f.Type != wire.FrameRelayed || json.Unmarshal(f.Body, &renewed) != nil {
		return wire.Lease{}, refused(f)
	}
	return renewed.Lease, s.pair.SendJSON(pair.FrameRelay, renewed.Relay)
}

// refused reads a refusal of the server, which may have written anything.
func refused(f wire.Frame) error {
	var r wire.Refuse
	if f.Type != wire.FrameRefuse || json.Unmarshal(f.Body, &r) != nil {
		return refusal.New(refusal.ProtocolError, "the server's answer cannot be read")
	}
	return refusal.New(refusal.Plain(r.Code), "the server refused")
}

// ask puts a question to the server and waits for its answer.
func (a *Agent) ask(ctx context.Context, typ wire.FrameType, body any) (wire.Frame, error) {
	c := a.up.get()
	if c == nil {
		return wire.Frame{}, refusal.New(refusal.Unreachable, "not connected")
	}
	return a.asked.ask(ctx, c, typ, body)
}

// questions are ours to the server that have no answer yet. There is at most one
// for each session.
type questions struct {
	mu     sync.Mutex
	lastID uint64                     // guarded by mu
	m      map[uint64]chan wire.Frame // guarded by mu
}

func (q *questions) ask(ctx context.Context, c *client.Control, typ wire.FrameType, body any) (wire.Frame, error) {
	id, came := q.next()
	defer q.forget(id)
	if err := send(ctx, c, typ, id, body); err != nil {
		return wire.Frame{}, err
	}
	select {
	case f := <-came:
		return f, nil
	case <-ctx.Done():
		return wire.Frame{}, refusal.New(refusal.Unreachable, "the server did not answer")
	}
}

func (q *questions) next() (uint64, <-chan wire.Frame) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.m == nil {
		q.m = make(map[uint64]chan wire.Frame)
	}
	q.lastID++
	q.m[q.lastID] = make(chan wire.Frame, 1)
	return q.lastID, q.m[q.lastID]
}

func (q *questions) forget(id uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.m, id)
}

// answer delivers a frame to whoever asked, once; others are dropped.
func (q *questions) answer(f wire.Frame) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if came := q.m[f.ID]; came != nil {
		delete(q.m, f.ID)
		came <- f
	}
}
