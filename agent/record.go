package agent

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/agent/trust"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/spool"
	"github.com/tucdesk/tucdesk/internal/audit/witness"
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

// ackLimit is how long the server may take to acknowledge entries before they
// are sent again; our choice.
const ackLimit = 30 * time.Second

// openAudit opens what the agent remembers of its own deeds and of the team's log.
func (a *Agent) openAudit(t *trust.Trust) (err error) {
	if a.spool, err = spool.Open(a.dir, a.identity, t.Roster.Team()); err != nil {
		return err
	}
	server, err := t.Roster.Server(a.member.Server.Access)
	if err != nil {
		return nil // not in the roster any more: nothing it shows would be believed
	}
	a.witness, err = witness.Open(filepath.Join(a.dir, witnessFile), checkpoint.Origin(server.Name, t.Roster.Team()))
	return err
}

// record appends e to the agent's chain. It is durable when record returns nil.
func (a *Agent) record(e entry.Entry) error {
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

// entry says who asked for what. Nothing that was not verified goes in.
func (q *question) entry(typ entry.EventType) entry.Entry {
	e := entry.Entry{Type: typ}
	if q.operator.Key.IsZero() {
		return e
	}
	r := &q.request
	e.Actor = entry.Actor{Kid: r.Operator, Email: q.operator.Email, Person: q.operator.Person}
	e.Session, e.RequestHash = r.Session, q.hash
	names := make([]string, len(r.Params.Env))
	for i, v := range r.Params.Env {
		names[i] = v.Name
	}
	e.Command = &entry.Command{Action: r.Action, User: r.Params.User, Argv: r.Params.Argv, Cwd: r.Params.Cwd, EnvNames: names, TTY: r.Params.TTY}
	return e
}

func (ans answer) describe(e *entry.Entry) {
	d := ans.decision
	e.Policy = entry.PolicyResult{Decision: d.Effect.String(), Rule: d.Rule, Hash: d.PolicyHash, Need: d.Approval.Count}
	for _, u := range ans.uses {
		e.Approvals = append(e.Approvals, u.Hash)
	}
}

func (a *Agent) recordAccept(q *question, ans answer) error {
	e := q.entry(entry.SessionAccept)
	ans.describe(&e)
	return a.record(e)
}

func (a *Agent) recordStart(q *question, ans answer) error {
	e := q.entry(entry.ExecStart)
	ans.describe(&e)
	return a.record(e)
}

// recordExit writes down what the session process says; it ran as the user, so it
// is the user's word.
func (a *Agent) recordExit(q *question, x exited) error {
	e := q.entry(entry.ExecEnd)
	e.Command.BytesIn, e.Command.BytesOut = uint64(max(x.BytesIn, 0)), uint64(max(x.BytesOut, 0))
	if x.Signal != "" {
		e.Command.Signal = plainSignal(x.Signal)
	} else {
		e.Command.ExitCode = entry.ExitCode(x.Code)
	}
	if x.Refusal != "" {
		e.Refusal = refusal.Plain(refusal.Code(x.Refusal))
	}
	return a.record(e)
}

func (a *Agent) recordEnd(q *question, code refusal.Code) {
	e := q.entry(entry.SessionEnd)
	e.Refusal = code
	_ = a.record(e) // logged there; the session has ended anyway
}

func (a *Agent) recordRefusal(q *question, code refusal.Code) {
	if !a.refusals.take(time.Now()) {
		return
	}
	e := q.entry(entry.SessionRefuse)
	e.Refusal = code
	_ = a.record(e) // logged there; the refusal stands anyway
}

// recordRoster notes a roster that was applied, or why one was not.
func (a *Agent) recordRoster(code refusal.Code) {
	if code != "" && !a.refusals.take(time.Now()) {
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

// refusalMeter is a token bucket.
type refusalMeter struct {
	mu   sync.Mutex
	b    bucket // guarded by mu
	used bool   // guarded by mu
}

func (m *refusalMeter) take(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.used {
		m.b, m.used = bucket{tokens: refusalBurst, at: now}, true
	}
	return m.b.take(now, refusalRate, refusalBurst)
}

// deliver sends what the server does not hold yet, one batch at a time, until the
// channel ends.
func (a *Agent) deliver(ctx context.Context, c *client.Control) {
	for ctx.Err() == nil {
		entries, err := a.spool.Pending(wire.MaxAuditBatch)
		if err != nil {
			a.log.Error("reading the audit log", "err", err) // the disk may come back
		}
		var again <-chan time.Time
		if err != nil {
			again = time.After(ackLimit)
		}
		if len(entries) > 0 {
			if err := send(ctx, c, wire.FrameAudit, 0, wire.AuditEntries{Entries: entries}); err != nil {
				return // the reader sees the channel's end
			}
			again = time.After(ackLimit)
		}
		if !a.awaitNews(ctx, again, len(entries) > 0) {
			return
		}
	}
}

// awaitNews waits for an acknowledgement when there is something under way, else
// for a new entry.
func (a *Agent) awaitNews(ctx context.Context, again <-chan time.Time, underway bool) bool {
	news := a.news
	if underway {
		news = a.acks
	}
	select {
	case <-news:
	case <-again:
	case <-ctx.Done():
		return false
	}
	return true
}

// acked hears up to where the server holds the agent's chain.
func (a *Agent) acked(seq uint64) {
	err := a.spool.Acked(seq)
	switch {
	case refusal.Of(err) == refusal.AuditFork:
		a.log.Error("the server and this agent disagree on the audit log", "err", err)
		return
	case err != nil:
		a.log.Error("removing delivered entries from the audit log", "err", err)
	}
	poke(a.acks)
}

// gossip takes a checkpoint of the team's log (protocol 5.3). The server knows
// from registration what was seen here, so a newer one without a proof is as bad
// as one with a wrong proof. Only when this side could not store what it was
// shown does the next proof start elsewhere; then the next connection sorts it out.
func (a *Agent) gossip(g wire.AuditGossip) {
	if a.witness == nil || g.Checkpoint == "" {
		return
	}
	t, _ := a.keeper.Get()
	server, err := t.Roster.Server(a.member.Server.Access)
	if err != nil {
		return
	}
	c, _, err := checkpoint.Open(g.Checkpoint, checkpoint.Origin(server.Name, t.Roster.Team()), server.Keys.Audit)
	if err != nil {
		a.log.Warn("the server showed a checkpoint that is not signed rightly", "err", err)
		return
	}
	known := a.witness.Size()
	if known > 0 && c.Size > known && !a.shown.is(known) {
		a.shown.set(c.Size)
		return
	}
	err = a.witness.Update(g, server.Keys.Audit)
	a.shown.set(c.Size) // also when it could not be stored: the next proof starts here
	switch {
	case refusal.Of(err) == refusal.AuditFork:
		a.log.Error("the server shows different logs", "err", err)
	case err != nil:
		a.log.Error("storing what the server showed of the log", "err", err)
	}
}

// shownLog is the size of the log that this connection's server was last known
// to have shown; its next proof starts there.
type shownLog struct {
	mu   sync.Mutex
	size int64 // guarded by mu
}

func (s *shownLog) set(size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.size = size
}

func (s *shownLog) is(size int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size == size
}

// release is the last check, when the operator has proved its key and nothing
// has happened yet: the same questions as before ACCEPT to what is in force now
// (attack E13), then the durable record that this request and its approvals are
// used (E3), then the log. Only after that may keys leave.
func (a *Agent) release(q *question, now time.Time) (answer, error) {
	if err := inTime("request", q.request.IssuedAt, q.request.ExpiresAt, wire.GatedRequestLifetime, now); err != nil {
		return answer{}, err
	}
	ans, err := a.decide(q, now)
	if err != nil {
		return ans, err
	}
	ids := []wire.Nonce{q.request.ID}
	for _, u := range ans.uses {
		ids = append(ids, u.ID)
	}
	if err := a.ledger.Use(ids, q.request.ExpiresAt.Time().Add(wire.ClockSkew), now); err != nil {
		return ans, err
	}
	if err := a.recordAccept(q, ans); err != nil {
		return ans, errors.Join(refusal.New(refusal.Unavailable, "the agent cannot write its audit log"), err)
	}
	return ans, nil
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
