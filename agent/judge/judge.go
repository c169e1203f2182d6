package judge

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"time"

	"github.com/tucdesk/tucdesk/agent/process"
	"github.com/tucdesk/tucdesk/agent/trust"
	"github.com/tucdesk/tucdesk/crypto/handshake"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/replay"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/rate"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// Judge decides on the offers of one agent. It is safe for concurrent use.
type Judge struct {
	cfg     Config
	waiting waitingList
	seen    *replay.Cache
}

// Config is what a Judge knows of its agent and asks of it.
type Config struct {
	Agent       key.ID // the agent's key
	Team        wire.TeamID
	Token       statement.Signed // by which the agent joined
	Certificate statement.Signed // of the agent, from its join
	Version     string           // of this program
	User        string           // that the agent runs as
	Began       time.Time        // when the agent's program opened its ledger; see remembers

	Keeper  *trust.Keeper
	Rate    *rate.Limiter[key.ID]       // OPENs of each operator
	Fetch   func(context.Context) error // asks the server for a newer roster
	Accused func() error                // why this team's servers are not to be trusted with new sessions
	IsOpen  func(wire.SessionID) bool   // whether a session of this id is open
	Logger  *slog.Logger
}

// New makes a Judge who has seen nothing yet.
func New(cfg Config) *Judge {
	return &Judge{cfg: cfg, seen: replay.NewCache(replayPerOperator, replayOperators)}
}

// Limits on what operators may ask, our choice: enough for scripts that open one
// session after the other, too little to keep a small machine busy (attack H8).
const (
	OpenRate  = 10   // OPENs of one operator in a second, on average
	OpenBurst = 100  // and at once: a hundred commands in a row, however quick they are
	maxKnown  = 4096 // waiting requests that are remembered
)

// Sizes of the replay cache, our choice: an operator at its full rate for the
// longest life of a request, and all operators of a large team.
const (
	replayPerOperator = OpenRate*11*60 + OpenBurst
	replayOperators   = 3 * 1024 // three kinds of identifier each
)

// fetchLimit is how long an OPEN waits for a roster that the operator knows and
// the agent does not; our choice, well inside the operator's own patience.
const fetchLimit = 5 * time.Second

// Question is one OPEN that was verified: who asks for what. It says nothing yet
// about whether that may be.
type Question struct {
	Offer    wire.OpenSession
	Open     handshake.Open
	Request  wire.Request
	Hash     key.Hash // of the request's statement
	Operator roster.Operator
	Grant    wire.Grant
	Need     *wire.ApprovalNeed // set when only approvals are missing

	Account process.Account // whom it runs as
	Dir     string          // working directory, absolute
	File    process.File    // of Exec; Path is "" for Shell
}

// Answer is the decision on a question at one moment.
type Answer struct {
	Trust    *trust.Trust    // by which it was decided
	Decision policy.Decision // of the policy
	Uses     []approval.Use  // approvals that were counted
}

// Offer does everything that protocol 2.5 demands before ACCEPT, in its order,
// one named refusal for each. The question is returned as far as it was verified,
// also with an error, for the audit log; its operator is zero until the request's
// signature was right.
func (j *Judge) Offer(ctx context.Context, offer wire.OpenSession, now time.Time) (*Question, Answer, error) {
	q := &Question{Offer: offer}
	var err error
	if q.Open, err = handshake.ParseOpen(offer.Open); err != nil {
		return q, Answer{}, err
	}
	if err := j.identify(ctx, q, now); err != nil {
		return q, Answer{}, err
	}
	if err := j.once(q, now); err != nil {
		return q, Answer{}, err
	}
	if err := j.checkRequest(q, now); err != nil {
		return q, Answer{}, err
	}
	if err := j.checkGrant(q, now); err != nil {
		return q, Answer{}, err
	}
	if err := q.resolve(); err != nil {
		return q, Answer{}, j.discreet(q, err, now)
	}
	ans, err := j.decide(q, now)
	if asksForApproval(err) {
		j.waiting.add(q.Hash, q.Request.ExpiresAt.Time(), now)
		q.Need = needOf(ans.Decision)
	}
	return q, ans, err
}

// asksForApproval reports the refusals after which the same OPEN may come again
// with more approvals. Nothing was answered, so nothing can be replayed.
func asksForApproval(err error) bool {
	code := refusal.Of(err)
	return code == refusal.ApprovalRequired || code == refusal.NotEnoughApprovers
}

// needOf says what is missing, for the server to ask people for.
func needOf(d policy.Decision) *wire.ApprovalNeed {
	need := &wire.ApprovalNeed{Rule: d.Asks, Count: d.Approval.Count, Roles: []string{}}
	for r := policy.Viewer; r <= policy.Owner; r++ {
		if d.Approval.Roles.Has(r) {
			need.Roles = append(need.Roles, r.String())
		}
	}
	return need
}

// identify finds out who asks: roster in force and not behind the operator's,
// key in it, role that may open sessions, signature of the request.
func (j *Judge) identify(ctx context.Context, q *Question, now time.Time) error {
	var op roster.Operator
	find := func(req wire.Request, kid key.ID) (_ statement.Verifier, err error) {
		if err := j.catchUp(ctx, req.RosterVersion); err != nil {
			return nil, err
		}
		t, err := j.cfg.Keeper.Usable(now)
		if err != nil {
			return nil, err
		}
		if op, err = Entitled(t, kid, now); err != nil {
			return nil, err
		}
		return op.Key, nil
	}
	req, kid, err := statement.OpenSelfSigned(q.Offer.Request, find)
	if err != nil {
		return err
	}
	if req.Operator != kid {
		return refusal.New(refusal.UnknownKey, "the request names another operator than its signer")
	}
	q.Request, q.Operator, q.Hash = req, op, q.Offer.Request.Hash()
	return j.rate(kid, now)
}

// catchUp fetches the roster that the operator knows, so that a lying server
// cannot keep the agent in the past (attack G5). What the request says is not
// verified yet: the worst it can do is to make us ask the server once.
func (j *Judge) catchUp(ctx context.Context, version uint64) error {
	t, changed := j.cfg.Keeper.Get()
	if t.Roster.Version() >= version {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	if err := j.cfg.Fetch(ctx); err != nil {
		return refusal.New(refusal.RosterBehind, "the operator knows roster version %d, the server cannot be asked for it", version)
	}
	for t.Roster.Version() < version {
		select {
		case <-changed:
			t, changed = j.cfg.Keeper.Get()
		case <-ctx.Done():
			return refusal.New(refusal.RosterBehind, "the operator knows roster version %d, here it is %d, and the server does not hand out more", version, t.Roster.Version())
		}
	}
	return nil
}

// once refuses what was seen before: the request's id, the session's and the
// operator's ephemeral key (attacks B2, B10). It stands after the signature,
// although protocol 2.5 lists it before: an id that anybody may write into the
// cache would let the server push out others' and raise their floor.
func (j *Judge) once(q *Question, now time.Time) error {
	if j.waiting.take(q.Hash, now) {
		return nil
	}
	kid := q.Request.Operator.String()
	eph := q.Open.Ephemeral()
	sum := sha256.Sum256(eph[:])
	issued, expires := q.Request.IssuedAt.Time(), q.Request.ExpiresAt.Time().Add(wire.ClockSkew)
	for _, id := range []struct {
		kind string
		id   [16]byte
	}{{"/request", q.Request.ID}, {"/session", q.Request.Session}, {"/ephemeral", [16]byte(sum[:16])}} {
		if err := j.seen.Use(kid+id.kind, id.id, issued, expires, now); err != nil {
			return err
		}
	}
	if j.cfg.IsOpen(q.Request.Session) {
		return refusal.New(refusal.Replay, "a session of this id is open")
	}
	return nil
}

// rate spends one of an operator's tokens. Only verified keys get here.
func (j *Judge) rate(kid key.ID, now time.Time) error {
	if !j.cfg.Rate.Allow(kid, now) {
		return refusal.New(refusal.RateLimited, "more than %d requests in a second", OpenRate)
	}
	return nil
}
