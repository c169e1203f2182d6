package agent

import (
	"encoding/json"
	"time"

	"github.com/tucdesk/tucdesk/agent/pair"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/rate"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

// maxTargets bounds the entries that one session writes into the log; our choice.
const maxTargets = 4_096

// markLen is how many digits of an operator's key id are in a mark: 80 bits, so that
// nobody makes a key that has another one's.
const markLen = 20

// askRate bounds how often one session process has its supervisor judge; our choice.
var askRate = rate.Rate{PerSecond: 500, Burst: 2_000}

// asks is what a session has asked for. Of serve's goroutine.
type asks struct {
	meter   *rate.Bucket      // nil before the first
	targets map[pair.Ask]bool // recorded ones, with ID 0
	crowded bool              // there was no place for what it leaves, and the agent's log says so
}

// asked answers whether something may be done in a session that stands. The newest
// policy decides each time, so that a right that is taken away is gone for the next
// connection.
func (s *live) asked(body []byte, now time.Time) error {
	var ask pair.Ask
	if err := json.Unmarshal(body, &ask); err != nil || !s.confirmed {
		return refusal.New(refusal.ProtocolError, "the session process asks what cannot be")
	}
	if s.asks.meter == nil {
		s.asks.meter = rate.NewBucket(askRate, now)
	}
	answer := pair.Answer{ID: ask.ID}
	d, err := policy.Decision{}, error(refusal.New(refusal.RateLimited, "more new connections in a session than a machine judges at a time"))
	if s.asks.meter.Take(askRate, now) {
		d, err = s.agent.judge.May(s.question, s.answer, ask.Action, ask.Target, now)
	}
	if err == nil && policy.Action(ask.Action) == policy.Background {
		err = s.room()
	}
	if err == nil {
		err = s.recordTarget(ask, d)
	}
	if err != nil {
		answer.Code, answer.Detail = refusal.Of(err), detail(err)
	}
	s.background = s.background || err == nil && policy.Action(ask.Action) == policy.Background
	answer.Named, answer.Roots, answer.Sockets = d.Named, d.Roots, d.Sockets
	if err == nil && policy.Action(ask.Action) == policy.CopyWrite {
		answer.Special, answer.Mark = s.special(d, now), s.question.Request.Operator.String()[:markLen]
	}
	return s.pair.SendJSON(pair.FrameAnswer, answer)
}

// special reports whether a copy may bring setuid, setgid and sticky bits along. They
// give whoever runs the file the rights of this user for good, so they are for who has
// those rights anyway, by a shell, and never where folders confine the copy: a program
// that runs as root leads out of them (attack I5).
func (s *live) special(d policy.Decision, now time.Time) bool {
	return d.Roots == nil && s.agent.judge.MayShell(s.question, now)
}

// room reports whether what the session leaves may stay. Whoever looks for a program
// that is gone finds why in the agent's own log: the operator has the exit status by then.
func (s *live) room() error {
	operator := s.question.Request.Operator
	err := s.agent.left.room(operator)
	if err != nil && !s.asks.crowded {
		s.asks.crowded = true
		s.agent.log.Warn("programs end with their session", "session", s.question.Request.Session.String(), "operator", operator.ShortCode(), "why", err)
	}
	return err
}

// detail is what a person is told beside the code.
func detail(err error) string {
	e, ok := err.(*refusal.Error)
	if !ok {
		return ""
	}
	return e.Detail
}

// recordTarget writes down what is reached or listened at, each target once in a
// session: browsers make thousands of connections to one.
func (s *live) recordTarget(ask pair.Ask, d policy.Decision) error {
	ask.ID = 0
	if s.asks.targets[ask] {
		return nil
	}
	if len(s.asks.targets) >= maxTargets {
		return refusal.New(refusal.TooMany, "a session reaches at most %d different targets", maxTargets)
	}
	ans := s.answer
	ans.Decision = d
	e := entryOf(s.question, entry.ChannelOpen)
	describe(&e, ans)
	e.Command.Action = ask.Action
	if ask.Target != "" {
		e.Command.Argv = []wire.Bytes{wire.Bytes(ask.Target)}
	}
	if err := s.agent.record(e); err != nil {
		return unwritten(err)
	}
	if s.asks.targets == nil {
		s.asks.targets = make(map[pair.Ask]bool)
	}
	s.asks.targets[ask] = true
	return nil
}
