package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/agent/trust"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/client"
)

// maxPending is how many OPENs are judged at the same time, of all operators; our
// choice.
const maxPending = 32

// Waiting between attempts to connect, our choice: a restarted server is back in
// a second for one agent, and 10,000 agents do not come at once.
const (
	backoffMin  = 500 * time.Millisecond
	backoffMax  = time.Minute
	backoffLast = 15 * time.Minute // after what only a person can mend: each attempt is an alarm in the team's log
	settled     = time.Minute      // a connection that held this long starts the waiting anew
)

// wait returns a random time for the n-th attempt in a row, after err.
func wait(n int, err error) time.Duration {
	longest := backoffMax
	if lasts(err) {
		longest = backoffLast
	}
	d := min(backoffMin<<min(n, 16), longest)
	return d/2 + rand.N(d/2)
}

// lasts reports a refusal that no later attempt gets over: the team's log holds other
// entries of this agent, or its key was revoked. It may still be the word of one lying
// server among others, so the waiting begins as short as ever.
func lasts(err error) bool {
	code := refusal.Of(err)
	return code == refusal.AuditFork || code == refusal.KeyRevoked
}

// after returns the number of the attempt that follows the n-th, whose connection
// held that long: the first one again, also for address, when it had settled.
func after(n int, held time.Duration) int {
	if held >= settled {
		return 0
	}
	return n + 1
}

// keepConnected dials, serves and dials again until ctx ends. It keeps nothing
// between attempts, so it can go on for years without a server.
func (a *Agent) keepConnected(ctx context.Context) {
	for n := 0; ctx.Err() == nil; {
		begun := time.Now()
		err := a.connect(ctx, n)
		if ctx.Err() != nil {
			return
		}
		n = after(n, time.Since(begun))
		a.up.lost(err)
		a.publish()
		d := wait(max(n-1, 0), err)
		a.log.Warn("not connected", "err", err, "again_in", d.Round(time.Millisecond).String())
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
}

// connect serves one control channel to its end.
func (a *Agent) connect(ctx context.Context, attempt int) error {
	addr := a.address(attempt)
	cfg := client.Config{URL: addr.URL, Pin: addr.Pin, Access: addr.Access}
	c, reg, err := client.DialControl(ctx, cfg, func(channel key.Hash) (wire.Register, error) {
		return a.hello(addr.Access, channel)
	})
	if err != nil {
		return err
	}
	defer c.Close()
	a.up.set(c, addr.URL)
	defer a.up.set(nil, "")
	a.log.Info("connected", "server", addr.URL)
	a.publish()
	return a.serve(ctx, c, reg)
}

// address picks the server for an attempt: those of the roster in turn, first the
// one that we joined at.
func (a *Agent) address(attempt int) roster.Address {
	t, _ := a.keeper.Get()
	var list []roster.Address
	for _, s := range t.Roster.Roster().Servers {
		if s.Keys.Access.ID() == a.member.Server.Access {
			list = append([]roster.Address{s.Address()}, list...)
		} else {
			list = append(list, s.Address())
		}
	}
	if len(list) == 0 {
		return a.member.Server // a roster without servers: nobody else is there to tell us more
	}
	return list[attempt%len(list)]
}

// hello signs the registration of one connection (protocol 2.11).
func (a *Agent) hello(server key.ID, channel key.Hash) (wire.Register, error) {
	seq, head := a.spool.Head()
	t, _ := a.keeper.Get()
	r, err := a.member.Register(a.identity, wire.Registration{
		Team: t.Roster.Team(), Server: server, Channel: channel,
		ClientVersion: a.version, AuditSeq: seq, AuditHead: head,
	}, t.Roster.Version())
	a.delivery.begin()
	r.Seen = uint64(a.gossip.Begin(server))
	return r, err
}

// serve reads one registered channel and joins its children before it returns.
func (a *Agent) serve(ctx context.Context, c *client.Control, reg wire.Registered) error {
	ctx, cancel := context.WithCancel(ctx)
	var children sync.WaitGroup
	defer children.Wait()
	defer cancel()
	defer c.Close()
	a.applyNews(reg.Roster)
	a.claimed(reg.AuditSeq)
	a.gossip.Take(reg.Checkpoint)
	children.Go(func() { a.deliver(ctx, c) })
	slots := make(chan struct{}, maxPending)
	for {
		f, err := c.Receive(ctx)
		if refusal.Of(err) == refusal.AuditFork {
			a.forked(err)
		}
		if err != nil {
			return err
		}
		if f.Type == wire.FrameOpen {
			a.opened(ctx, c, f, slots, &children)
			continue
		}
		if err := a.handle(ctx, c, f); err != nil {
			return err
		}
	}
}

// handle takes every frame but open. An error ends the channel.
func (a *Agent) handle(ctx context.Context, c *client.Control, f wire.Frame) error {
	switch f.Type {
	case wire.FrameHeartbeat:
		return take(f, func(h wire.Heartbeat) error { return a.heartbeat(ctx, c, h) })
	case wire.FrameRoster:
		return take(f, func(n wire.RosterNews) error {
			a.applyNews(n)
			return nil
		})
	case wire.FrameAuditAck:
		return take(f, func(k wire.AuditAck) error {
			a.acked(k)
			return nil
		})
	case wire.FrameRelayed, wire.FrameRefuse:
		a.asked.answer(f)
		return nil
	case wire.FrameCut:
		return take(f, func(cut wire.Cut) error {
			a.cut(cut)
			return nil
		})
	}
	return nil // a newer server may say more
}

func take[B any](f wire.Frame, with func(B) error) error {
	var body B
	if json.Unmarshal(f.Body, &body) != nil {
		return refusal.New(refusal.ProtocolError, "the server sent a malformed frame")
	}
	return with(body)
}

// heartbeat answers, and asks for or brings news.
func (a *Agent) heartbeat(ctx context.Context, c *client.Control, h wire.Heartbeat) error {
	a.gossip.Take(h.Checkpoint)
	t, _ := a.keeper.Get()
	seq, _ := a.spool.Head()
	reply := wire.HeartbeatReply{RosterVersion: t.Roster.Version(), AuditSeq: seq, Sessions: a.sessions.count(), Cosigned: a.gossip.Cosign()}
	if err := send(ctx, c, wire.FrameHeartbeat, 0, reply); err != nil {
		return err
	}
	switch {
	case h.RosterVersion > t.Roster.Version() || t.Rules == nil:
		return send(ctx, c, wire.FrameRoster, 0, wire.RosterWant{Version: a.wanted(t)})
	case h.RosterVersion < t.Roster.Version():
		return send(ctx, c, wire.FrameRoster, 0, wire.RosterWant{Version: t.Roster.Version(), Ahead: ahead(t, h.RosterVersion)})
	}
	return nil
}

// wanted is the version to ask from: our own, or the one before it when its
// policy text is missing here, since the text comes with the version.
func (a *Agent) wanted(t *trust.Trust) uint64 {
	if t.Rules == nil && t.Roster.Version() > 0 {
		return t.Roster.Version() - 1
	}
	return t.Roster.Version()
}

// ahead picks the oldest updates that the server lacks, as many as fit a frame.
func ahead(t *trust.Trust, version uint64) []wire.RosterUpdate {
	const room = wire.MaxFrame - 4<<10
	size := 0
	updates := t.Roster.After(version)
	for i, u := range updates {
		size += len(u.Statement) + 256*len(u.Cosignatures)
		if size > room {
			return updates[:i]
		}
	}
	return updates
}

// wantRoster asks the server for news, if there is a server.
func (a *Agent) wantRoster(ctx context.Context) error {
	c := a.up.get()
	if c == nil {
		return refusal.New(refusal.Unreachable, "not connected")
	}
	t, _ := a.keeper.Get()
	return send(ctx, c, wire.FrameRoster, 0, wire.RosterWant{Version: a.wanted(t)})
}

func send(ctx context.Context, c *client.Control, typ wire.FrameType, id uint64, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encoding a %q frame: %v", typ, err)
	}
	return c.Send(ctx, wire.Frame{Type: typ, ID: id, Body: raw})
}

// applyNews brings the roster up to date. What is refused is loud: either the
// server or an owner's key is not what it should be.
func (a *Agent) applyNews(news wire.RosterNews) {
	if len(news.Updates) == 0 && len(news.Policy) == 0 {
		return
	}
	now := time.Now()
	changed, err := a.keeper.Apply(news, now)
	if changed {
		a.enforce(now) // before anything is written: a disk may be full or slow
		t, _ := a.keeper.Get()
		a.log.Info("roster applied", "version", t.Roster.Version(), "policy_usable", t.Rules != nil)
		a.recordRoster("")
		if err := t.Roster.CheckProgram(a.version); err != nil {
			a.log.Error("this program is too old: only admins can open sessions", "err", err)
		}
	}
	if err != nil {
		a.log.Error("the server offered a roster that is not accepted", "err", err)
		a.recordRoster(codeOf(err))
	}
	a.saveTrust()
	a.publish()
}

// opened judges one OPEN in a goroutine of its own, so that asking the server for
// a roster does not keep its answer from being read.
func (a *Agent) opened(ctx context.Context, c *client.Control, f wire.Frame, slots chan struct{}, children *sync.WaitGroup) {
	select {
	case slots <- struct{}{}:
	default:
		err := refusal.New(refusal.TooMany, "the agent is busy with %d other requests", maxPending)
		a.tell(ctx, c, wire.FrameRefuse, f.ID, wire.Refuse{Code: err.Code, Detail: err.Detail})
		return
	}
	children.Go(func() {
		defer func() { <-slots }()
		typ, body := a.answer(ctx, f)
		a.tell(ctx, c, typ, f.ID, body)
	})
}

// answer returns what to say to an OPEN.
func (a *Agent) answer(ctx context.Context, f wire.Frame) (wire.FrameType, any) {
	var offer wire.OpenSession
	if json.Unmarshal(f.Body, &offer) != nil {
		return wire.FrameRefuse, wire.Refuse{Code: refusal.BadMessage, Detail: "OPEN cannot be read"}
	}
	m2, q, err := a.accept(ctx, offer)
	if err == nil {
		a.log.Info("accepted", "session", q.Request.Session.String(), "operator", q.Request.Operator.ShortCode(), "action", string(q.Request.Action), "user", q.Account.Name)
		return wire.FrameAccept, wire.AcceptSession{Accept: m2}
	}
	code := codeOf(err)
	a.log.Warn("refused", "code", code, "err", err, "session", q.Request.Session.String())
	a.recordRefusal(q, code)
	return wire.FrameRefuse, wire.Refuse{Code: code, Detail: detailOf(err, q.Request.Session), Need: q.Need}
}

func (a *Agent) tell(ctx context.Context, c *client.Control, typ wire.FrameType, id uint64, body any) {
	if err := send(ctx, c, typ, id, body); err != nil {
		a.log.Warn("answering the server", "err", err)
	}
}

// cut ends a session on the server's word: it may always end, never begin.
func (a *Agent) cut(cut wire.Cut) {
	for _, s := range a.sessions.all() {
		if s.question.Request.Session == cut.Session {
			a.log.Info("cut by the server", "session", cut.Session.String(), "code", refusal.Plain(cut.Code))
			s.end(refusal.Plain(cut.Code))
		}
	}
}

// codeOf never returns "": an internal fault is "unavailable" to others.
func codeOf(err error) refusal.Code {
	if code := refusal.Of(err); code != "" {
		return code
	}
	return refusal.Unavailable
}

// detailOf returns our own words about a refusal, and nothing of internal faults,
// which may hold paths, but the word under which the log has them.
func detailOf(err error, session wire.SessionID) string {
	var r *refusal.Error
	if errors.As(err, &r) {
		return r.Detail
	}
	return "an internal fault of the agent; its log says more of session " + session.String()
}

// uplink is the control channel while there is one.
type uplink struct {
	mu    sync.Mutex
	c     *client.Control // guarded by mu; nil while there is none
	url   string          // guarded by mu
	since time.Time       // guarded by mu; of the present state
	err   error           // guarded by mu; why there is none
}

func (l *uplink) set(c *client.Control, url string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.c, l.url, l.since, l.err = c, url, time.Now(), nil
}

func (l *uplink) lost(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.since = time.Now()
	}
	l.err = err
}

func (l *uplink) get() *client.Control {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.c
}
