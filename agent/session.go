package agent

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tucdesk/tucdesk/agent/judge"
	"github.com/tucdesk/tucdesk/agent/kept"
	"github.com/tucdesk/tucdesk/agent/pair"
	"github.com/tucdesk/tucdesk/agent/utmp"
	"github.com/tucdesk/tucdesk/crypto/handshake"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

// Our choices.
const (
	// confirmLimit is the time from ACCEPT to CONFIRM.
	confirmLimit = 30 * time.Second
	// endLimit is how long a session process may take to end its program, which
	// gets two seconds of it, before it is killed.
	endLimit = 6 * time.Second
	// pingLimit is how long a ping lasts at most, also without a network: it takes a
	// process of the machine's and needs nobody's approval.
	pingLimit = 10 * time.Minute
	// reportsPerSession bounds what a hostile session process can write into the log.
	reportsPerSession = 16
	// alarmsPerSession bounds the reports of forged datagrams; an honest session
	// process has fewer until its counter is full.
	alarmsPerSession = 16
	// maxConfirms bounds the wrong CONFIRMs that a session process may show; an
	// honest one stops earlier.
	maxConfirms = 2048
)

// live is one session from ACCEPT to the end of its process.
type live struct {
	agent     *Agent
	question  *judge.Question
	handshake *handshake.Agent
	child
	stream *os.File // for the holder of a kept shell: what the session process has the other end of; else nil
	begun  time.Time

	told   int           // ways that the child has told of; of serve's goroutine
	until  atomic.Int64  // when its longest duration is over, in ms since 1970; 0 before CONFIRM, and without one
	forged atomic.Uint64 // datagrams that did not open, as the child counts them; 0 before the alarm

	cutOnce sync.Once
	cut     chan struct{} // closed when the session has to end
	why     refusal.Code  // guarded by cut

	// Of serve's goroutine.
	confirmed  bool
	background bool // what it started may stay
	answer     judge.Answer
	limits     policy.Limits
	reports    int
	login      *utmp.Login
	asks       asks
	wrong      int
	alarms     int
	last       *pair.Exited
	closed     *pair.Closed
}

// end makes the session end; the first reason counts.
func (s *live) end(why refusal.Code) {
	s.cutOnce.Do(func() {
		s.why = why
		close(s.cut)
	})
}

// accept answers one OPEN: ACCEPT, or the refusal. The session process allocates
// on the relay while ACCEPT travels.
func (a *Agent) accept(ctx context.Context, offer wire.OpenSession) (m2 []byte, q *judge.Question, err error) {
	q, _, err = a.judge.Offer(ctx, offer, time.Now())
	if err != nil {
		return nil, q, err
	}
	if err := a.mayBegin(q.Request.Operator); err != nil {
		return nil, q, unwritten(err)
	}
	if err := a.sessions.reserve(&q.Request); err != nil {
		return nil, q, err
	}
	s, m2, err := a.begin(q)
	if err != nil {
		a.sessions.release(&q.Request)
		return nil, q, err
	}
	a.sessions.fill(s)
	a.running.Go(func() {
		defer a.sessions.release(&q.Request)
		s.run()
		a.publish()
	})
	a.publish()
	return m2, q, nil
}

// begin makes ACCEPT and the session process.
func (a *Agent) begin(q *judge.Question) (*live, []byte, error) {
	t, _ := a.keeper.Get()
	hs, m2, err := handshake.Accept(handshake.AgentConfig{
		Identity: a.identity, Operator: q.Operator.Key, GrantHash: q.Offer.Grant.Hash(),
		RosterHash: t.Roster.Hash(), Flags: uint32(wire.SessionProtocol), Suites: suites(q.Request.Suites),
	}, q.Offer.Open)
	if err != nil {
		return nil, nil, err
	}
	s := &live{agent: a, question: q, handshake: hs, begun: time.Now(), cut: make(chan struct{})}
	if s.child, s.stream, err = a.spawn(q); err != nil {
		hs.Close()
		return nil, nil, err
	}
	return s, m2, nil
}

// spawn starts a session process, for a kept shell with its end of a stream.
func (a *Agent) spawn(q *judge.Question) (child, *os.File, error) {
	name := q.Request.Session.String()
	if q.Request.Action == wire.Ping {
		c, err := a.start(name, func() (*exec.Cmd, io.ReadWriteCloser, error) { return pair.SpawnConfined(a.command, q.Account) })
		return c, nil, err
	}
	var given []*os.File
	var ours *os.File
	if q.Request.Params.Keep.Runs() {
		holder, session, err := kept.NewStream()
		if err != nil {
			return child{}, nil, err
		}
		defer session.Close()
		ours, given = holder, []*os.File{session}
	}
	c, err := a.start(name, a.spawner(q.Account, given...))
	if err != nil && ours != nil {
		_ = ours.Close()
		ours = nil
	}
	return c, ours, err
}

// suites are the offered ones that this agent has, best first; the handshake
// chooses among them, never among others.
func suites(offered []uint16) (list []handshake.Suite) {
	for _, s := range []handshake.Suite{handshake.Hybrid, handshake.X25519} {
		if slices.Contains(offered, uint16(s)) {
			list = append(list, s)
		}
	}
	return list
}

// run serves the session process to its end.
func (s *live) run() {
	defer s.handshake.Close()
	frames := make(chan pair.Frame)
	var reader sync.WaitGroup
	reader.Go(func() { s.child.read(frames, s.end) })
	leave := s.keepRelay()
	defer leave()
	err := s.tell()
	if err == nil {
		err = s.serve(frames)
	}
	if err == nil && s.confirmed && s.closed == nil {
		err = refusal.New(refusal.Gone, "the session process was killed")
	}
	if err != nil {
		s.end(codeOf(err))
	}
	s.stop(frames)
	reader.Wait()
	s.agent.absent(s.login)
	s.report(err)
	s.leave(err)
}

func (s *live) tell() error {
	r := &s.question.Request
	return s.pair.SendJSON(pair.FrameJob, pair.Job{
		Index: s.handshake.Index(), Relay: s.question.Grant.Relay, Proxies: s.agent.proxies, Map: s.agent.mapPorts, Direct: s.agent.direct, Way: s.agent.ways.last(), Action: r.Action, Argv: r.Params.Argv,
		File: s.question.File, Dir: wire.Bytes(s.question.Dir), Env: r.Params.Env, TTY: r.Params.TTY, Account: s.question.Account, Keep: r.Params.Keep, PAM: s.agent.runuser != "",
	})
}

// serve handles frames until the child has gone or the session must end.
func (s *live) serve(frames <-chan pair.Frame) error {
	timer := time.NewTimer(confirmLimit)
	defer timer.Stop()
	for {
		select {
		case f, ok := <-frames:
			if !ok {
				return nil
			}
			if err := s.handle(f, timer); err != nil {
				return err
			}
		case <-timer.C:
			if !s.confirmed {
				return refusal.New(refusal.Unreachable, "the operator did not confirm in time")
			}
			return refusal.New(refusal.Expired, "the session reached the longest duration that the policy allows")
		case <-s.cut:
			return &refusal.Error{Code: s.why}
		}
	}
}

// handle takes one frame of the child. Whatever is not expected ends the session.
func (s *live) handle(f pair.Frame, timer *time.Timer) error {
	if f.Type == pair.FrameConfirm {
		return s.confirm(f.Body, timer)
	}
	if f.Type == pair.FrameForged && s.confirmed {
		return s.alarm(f.Body)
	}
	if f.Type == pair.FrameWay {
		return s.reached(f.Body)
	}
	if f.Type == pair.FrameAsk {
		return s.asked(f.Body, time.Now())
	}
	if s.reports++; !s.confirmed && f.Type != pair.FrameClosed || s.reports > reportsPerSession {
		return refusal.New(refusal.ProtocolError, "the session process reports what cannot be")
	}
	if f.Type != pair.FrameClosed && (s.question.Request.Action == wire.Ping || s.question.Request.Params.Keep != nil) {
		return refusal.New(refusal.ProtocolError, "the session process reports a program that it cannot have")
	}
	switch f.Type {
	case pair.FrameStarted:
		var r pair.Started
		if err := json.Unmarshal(f.Body, &r); err != nil {
			return refusal.New(refusal.ProtocolError, "the session process sent a malformed report")
		}
		if s.login == nil {
			s.login = s.agent.present(&s.child, r.PID, s.question)
		}
		s.agent.log.Info("program started", "session", s.question.Request.Session.String(), "pid", r.PID)
		return s.agent.recordStart(s.question, s.answer)
	case pair.FrameExited:
		s.last = new(pair.Exited)
		if err := json.Unmarshal(f.Body, s.last); err != nil {
			return refusal.New(refusal.ProtocolError, "the session process sent a malformed report")
		}
		return s.agent.recordExit(s.question, *s.last)
	case pair.FrameClosed:
		s.closed = new(pair.Closed)
		if err := json.Unmarshal(f.Body, s.closed); err != nil {
			return refusal.New(refusal.ProtocolError, "the session process sent a malformed report")
		}
		return nil
	}
	return refusal.New(refusal.ProtocolError, "the session process sent a frame out of place")
}

// alarm hears that somebody sends forged datagrams, and tells who can look after
// this machine (attack A14). The log of the team has no event for it: it is the word
// of the child.
func (s *live) alarm(body []byte) error {
	var f pair.Forged
	if s.alarms++; s.alarms > alarmsPerSession || json.Unmarshal(body, &f) != nil {
		return refusal.New(refusal.ProtocolError, "the session process reports what cannot be")
	}
	s.forged.Store(f.Count)
	s.agent.log.Warn("somebody sends forged datagrams to a session; none gets in", "session", s.question.Request.Session.String(), "count", f.Count)
	s.agent.publish()
	return nil
}

// confirm checks a CONFIRM. One that does not open changes nothing, because
// anybody can send a datagram (attack B11); one that opens but may not be served
// any more ends the session.
func (s *live) confirm(m3 []byte, timer *time.Timer) error {
	keys, err := s.handshake.Confirm(m3)
	if err != nil {
		if s.wrong++; s.wrong > maxConfirms {
			return refusal.New(refusal.HandshakeFailed, "too many wrong CONFIRM messages")
		}
		return s.pair.Send(pair.FrameRejected, nil)
	}
	defer keys.Erase() // also when they are asked for a second time
	if s.confirmed {
		return refusal.New(refusal.ProtocolError, "the session process asks for its keys twice")
	}
	ans, err := s.agent.release(s.question, time.Now())
	if err != nil {
		return err
	}
	s.confirmed, s.answer, s.limits = true, ans, ans.Decision.Limits
	if s.question.Request.Action == wire.Ping {
		s.limits.Session, s.limits.Resume = shorter(s.limits.Session, pingLimit), shorter(s.limits.Resume, pingLimit)
	}
	if timer.Stop(); s.limits.Session > 0 {
		timer.Reset(s.limits.Session)
		s.until.Store(time.Now().Add(s.limits.Session).UnixMilli())
	}
	seq, head := s.agent.spool.Head()
	exported := keys.Export()
	defer clear(exported)
	body, err := pair.JoinKeys(exported, pair.Ready{
		Rule: ans.Decision.Rule, Policy: ans.Trust.Roster.PolicyHash(),
		MaxDuration: s.limits.Session, MaxIdle: s.limits.Idle, MaxResume: s.limits.Resume, AuditSeq: seq, AuditHead: head, Keep: s.keep(),
	})
	if err != nil {
		return err
	}
	defer clear(body)
	return s.pair.Send(pair.FrameKeys, body)
}

// lapsed reports that the longest duration is over by the time of day: the timer of
// serve stands still while the machine sleeps.
func (s *live) lapsed(now time.Time) bool {
	until := s.until.Load()
	return until != 0 && now.UnixMilli() >= until
}

// shorter returns the shorter one of two limits, of which 0 is none.
func shorter(limit, most time.Duration) time.Duration {
	if limit == 0 {
		return most
	}
	return min(limit, most)
}

// stop ends the child and hears its last words.
func (s *live) stop(frames <-chan pair.Frame) {
	var code refusal.Code
	cut := false
	select {
	case <-s.cut:
		code, cut = s.why, true
	default:
	}
	orderly := s.child.stop(code, frames, func(f pair.Frame) {
		if f.Type == pair.FrameExited && s.confirmed && s.last == nil {
			_ = s.handle(f, nil)
		}
	})
	if err := s.endGroup(orderly && !cut); err != nil {
		s.agent.log.Error("ending what a session left", "session", s.question.Request.Session.String(), "err", err)
	}
}

// report writes the end of the session.
func (s *live) report(err error) {
	code := refusal.Of(err)
	if code == "" && err != nil { // none of the reasons that peers hear: something is wrong here
		s.agent.log.Error("a session was cut", "session", s.question.Request.Session.String(), "err", err)
	}
	if code == "" && s.closed != nil {
		code = refusal.Plain(refusal.Code(s.closed.Refusal))
	}
	if !s.confirmed {
		s.agent.log.Info("session did not begin", "session", s.question.Request.Session.String(), "code", code)
		s.agent.recordRefusal(s.question, code)
		return
	}
	s.agent.log.Info("session ended", "session", s.question.Request.Session.String(), "code", code, "after", time.Since(s.begun).Round(time.Millisecond).String())
	s.agent.recordEnd(s.question, code)
}
