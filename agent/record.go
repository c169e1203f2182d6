package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/agent/gossip"
	"github.com/tucdesk/tucdesk/agent/judge"
	"github.com/tucdesk/tucdesk/agent/pair"
	"github.com/tucdesk/tucdesk/agent/trust"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/spool"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/client"
)

// Refusals in the log, our choice: a server that keeps asking must not fill the
// disk. What is left out is still in the agent's own log output.
const (
	refusalBurst = 60
	refusalRate  = 1 // in a second
)

// Delivery, our choices.
const (
	// ackLimit is how long the server may take to prove that the log holds entries
	// before they are sent again.
	ackLimit = 30 * time.Second

	// window is how many full batches may be under way: with a server 200 ms away as many
	// as it takes in a second (channel.FramesPerSecond), so that distance alone fills no
	// spool (attack N9), and not so many that an answer to an OPEN waits for long behind
	// them.
	window = 4
)

// openAudit opens what the agent remembers of its own deeds and of the team's log.
func (a *Agent) openAudit(t *trust.Trust) (err error) {
	if a.spool, err = spool.Open(a.dir, a.identity, t.Roster.Team()); err != nil {
		return err
	}
	a.gossip, err = gossip.Open(a.dir, a.keeper, a.identity, a.log)
	return err
}

// started is the entry that says that the agent has started, while it has no place in the
// spool.
type started struct {
	mu   sync.Mutex // held across the write on purpose: nobody may take a start for written that is being
	owed bool       // guarded by mu
	why  error      // guarded by mu: of the last try, nil when nothing is owed
}

func (s *started) owe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owed = true
}

// missing is why there is no such entry yet, or nil.
func (s *started) missing() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// recordStarted writes that the agent has started, if that is still to be done.
func (a *Agent) recordStarted() error {
	a.started.mu.Lock()
	defer a.started.mu.Unlock()
	if !a.started.owed {
		return nil
	}
	err := a.spool.Room(entry.AgentStart, key.ID{}) // a start that waits is not lost, and marks no gap
	if err == nil {
		err = a.write(entry.Entry{Type: entry.AgentStart})
	}
	a.started.owed, a.started.why = err != nil, err
	return err
}

// mayBegin reports whether a session of by can be written down. What it begins with is
// checked again when it is written; here nothing has been started for it yet.
func (a *Agent) mayBegin(by key.ID) error {
	if err := a.recordStarted(); err != nil {
		return err
	}
	return a.spool.Room(entry.SessionAccept, by)
}

// record appends e to the agent's chain. It is durable when record returns nil. No
// session gets in before the start: the server takes a start for the end of all sessions
// that came before it.
func (a *Agent) record(e entry.Entry) error {
	if err := a.recordStarted(); err != nil && e.Type == entry.SessionAccept {
		return err
	}
	return a.write(e)
}

func (a *Agent) write(e entry.Entry) error {
	t, _ := a.keeper.Get()
	e.Time, e.RosterVersion = wire.At(time.Now()), t.Roster.Version()
	e.Target = entry.Target{Agent: a.ID(), Name: a.cert.Name}
	if _, err := a.spool.Append(e); err != nil {
		a.log.Error("writing the audit log", "event", string(e.Type), "err", err)
		return err
	}
	poke(a.news)
	return nil
}

// entryOf says who asked for what. Nothing that was not verified goes in.
func entryOf(q *judge.Question, typ entry.EventType) entry.Entry {
	e := entry.Entry{Type: typ}
	if q.Operator.Key.IsZero() {
		return e
	}
	r := &q.Request
	e.Actor = entry.Actor{Kid: r.Operator, Email: q.Operator.Email, Person: q.Operator.Person}
	e.Session, e.RequestHash = r.Session, q.Hash
	names := make([]string, len(r.Params.Env))
	for i, v := range r.Params.Env {
		names[i] = v.Name
	}
	e.Command = &entry.Command{Action: r.Action, User: r.Params.User, Argv: r.Params.Argv, Cwd: r.Params.Cwd, EnvNames: names, TTY: r.Params.TTY, Keep: r.Params.Keep}
	return e
}

func describe(e *entry.Entry, ans judge.Answer) {
	d := ans.Decision
	e.Policy = entry.PolicyResult{Decision: d.Effect.String(), Rule: d.Rule, Hash: d.PolicyHash, Need: d.Approval.Count}
	for _, u := range ans.Uses {
		e.Approvals = append(e.Approvals, u.Hash)
	}
}

func (a *Agent) recordAccept(q *judge.Question, ans judge.Answer) error {
	e := entryOf(q, entry.SessionAccept)
	describe(&e, ans)
	return a.record(e)
}

func (a *Agent) recordStart(q *judge.Question, ans judge.Answer) error {
	e := entryOf(q, entry.ExecStart)
	describe(&e, ans)
	return a.record(e)
}

// recordExit writes down what the session process says; it ran as the user, so it
// is the user's word.
func (a *Agent) recordExit(q *judge.Question, x pair.Exited) error {
	e := entryOf(q, entry.ExecEnd)
	ended(&e, x)
	return a.record(e)
}

// ended puts the end of a program into an entry.
func ended(e *entry.Entry, x pair.Exited) {
	e.Command.BytesIn, e.Command.BytesOut = uint64(max(x.BytesIn, 0)), uint64(max(x.BytesOut, 0))
	if x.Signal != "" {
		e.Command.Signal = plainSignal(x.Signal)
	} else {
		e.Command.ExitCode = entry.ExitCode(x.Code)
	}
	if x.Refusal != "" {
		e.Refusal = refusal.Plain(refusal.Code(x.Refusal))
	}
}

func (a *Agent) recordEnd(q *judge.Question, code refusal.Code) {
	e := entryOf(q, entry.SessionEnd)
	e.Refusal = code
	_ = a.record(e) // logged there; the session has ended anyway
}

func (a *Agent) recordRefusal(q *judge.Question, code refusal.Code) {
	if !a.refusals.Allow(struct{}{}, time.Now()) {
		return
	}
	e := entryOf(q, entry.SessionRefuse)
	e.Refusal = code
	_ = a.record(e) // logged there; the refusal stands anyway
}

// recordRoster notes a roster that was applied, or why one was not.
func (a *Agent) recordRoster(code refusal.Code) {
	if code != "" && !a.refusals.Allow(struct{}{}, time.Now()) {
		return
	}
	_ = a.record(entry.Entry{Type: entry.RosterApplied, Refusal: code})
}

// plainSignal keeps a child's words out of the log unless they are a signal's name.
func plainSignal(s string) string {
	for _, c := range []byte(s) {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return "UNKNOWN"
		}
	}
	return s[:min(len(s), 16)]
}

// deliver sends what the log has not proved to hold yet, until the channel ends. A
// server that says that it has a batch but proves nothing gets the next one all the
// same, and the first again after a while: what happens here must not wait for it.
func (a *Agent) deliver(ctx context.Context, c *client.Control) {
	for ctx.Err() == nil {
		err := a.sendBatches(ctx, c)
		if err != nil {
			a.log.Error("reading the audit log", "err", err) // the disk may come back
		}
		var again <-chan time.Time
		if d, waits := a.delivery.patience(time.Now()); waits || err != nil {
			again = time.After(d)
		}
		select {
		case <-a.news:
		case <-a.acks:
		case <-again:
			a.delivery.begin()
		case <-ctx.Done():
		}
	}
}

// sendBatches sends as many batches as may be under way. One that is not full waits for
// the answer to those before it and grows meanwhile: the server takes only so many frames
// in a second, and answers to it queue behind them.
func (a *Agent) sendBatches(ctx context.Context, c *client.Control) error {
	for {
		after, underway := a.delivery.next()
		if underway >= window {
			return nil
		}
		entries, err := a.spool.Pending(after, wire.MaxAuditBatch)
		if err != nil || len(entries) == 0 {
			return err
		}
		last := entry.Peek(entries[len(entries)-1]).Seq
		if newest, _ := a.spool.Head(); underway > 0 && last == newest {
			return nil
		}
		a.delivery.sending(last, time.Now())
		if send(ctx, c, wire.FrameAudit, 0, wire.AuditEntries{Entries: entries}) != nil {
			return nil // the reader sees the channel's end
		}
	}
}

// release is the last check, when the operator has proved its key and nothing
// has happened yet: the same questions as before ACCEPT to what is in force now
// (attack E13), then the durable record that this request and its approvals are
// used (E3), then the log. Only after that may keys leave.
func (a *Agent) release(q *judge.Question, now time.Time) (judge.Answer, error) {
	ans, err := a.judge.Again(q, now)
	if err != nil {
		return ans, err
	}
	ids := []wire.Nonce{q.Request.ID}
	for _, u := range ans.Uses {
		ids = append(ids, u.ID)
	}
	if err := a.ledger.Use(ids, q.Request.ExpiresAt.Time().Add(wire.ClockSkew), now); err != nil {
		return ans, err
	}
	if err := a.recordAccept(q, ans); err != nil {
		return ans, unwritten(err)
	}
	return ans, nil
}

// unwritten is what whoever asked for something hears when it cannot be written down.
func unwritten(err error) error {
	if refusal.Of(err) == refusal.AuditFull {
		return err
	}
	return errors.Join(refusal.New(refusal.Unavailable, "the agent cannot write its audit log"), err)
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
