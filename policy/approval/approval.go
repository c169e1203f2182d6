package approval

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

const (
	// Lifetime is how long an approval may be used (protocol 4.3).
	Lifetime = 5 * time.Minute
	// MaxApprovals bounds what may be offered for one request, denials and
	// spoiled ones included; our choice.
	MaxApprovals = 32
)

// Decision is an approver's answer.
type Decision string

// The decisions.
const (
	Approve Decision = "approve" // counts towards what the rule needs, once for each person
	Deny    Decision = "deny"    // ends the request, however many have approved
)

// Approval is one person's decision on one request (protocol 4.3).
type Approval struct {
	ID          wire.Nonce     `json:"jti"`
	Team        wire.TeamID    `json:"team"`
	RequestHash key.Hash       `json:"requestHash"`
	Session     wire.SessionID `json:"session"`
	Agent       key.ID         `json:"agent"`
	Requester   key.ID         `json:"requester"`
	Action      wire.Action    `json:"action"`
	Params      wire.Params    `json:"params"`
	Decision    Decision       `json:"decision"`
	IssuedAt    wire.Millis    `json:"iat"`
	ExpiresAt   wire.Millis    `json:"exp"`
}

// Kind says how an Approval is signed: a request's 64 KiB and some more.
func (Approval) Kind() statement.Kind {
	return statement.Kind{Type: "tucdesk/approval/v1", MaxSize: 80 << 10}
}

// about returns an approval that repeats req and decides nothing yet.
func about(req wire.Request, hash key.Hash) Approval {
	return Approval{
		Team: req.Team, RequestHash: hash, Session: req.Session, Agent: req.Agent,
		Requester: req.Operator, Action: req.Action, Params: req.Params,
	}
}

// repeats reports whether a repeats every field of the agent's own copy of the
// request. The encoded forms are compared, so one argument split in two or
// joined, or an empty one added, is another text (attack E4).
func (a Approval) repeats(req wire.Request, hash key.Hash) bool {
	want := about(req, hash)
	want.ID, want.Decision, want.IssuedAt, want.ExpiresAt = a.ID, a.Decision, a.IssuedAt, a.ExpiresAt
	mine, err := json.Marshal(want)
	if err != nil {
		return false
	}
	theirs, err := json.Marshal(a)
	return err == nil && bytes.Equal(mine, theirs)
}

// Make signs a decision about req, whose statement has the given hash and whom
// the approver was shown. It holds for Lifetime, though never longer than req.
// Refusals: self_approval for the requester's own key (a denial is the
// requester's way to withdraw); expired, bad_time; bad_argument when req has an
// argument that no program can be given.
func Make(signer key.Private[key.Operator], req wire.Request, hash key.Hash, d Decision, now time.Time) (statement.Signed, error) {
	at := wire.At(now)
	switch {
	case d != Approve && d != Deny:
		return nil, refusal.New(refusal.BadRequest, "a decision is %q or %q", Approve, Deny)
	case hash.IsZero():
		return nil, refusal.New(refusal.BadRequest, "the request to decide on has no hash")
	case d == Approve && signer.ID() == req.Operator:
		return nil, refusal.New(refusal.SelfApproval, "who asks cannot approve")
	case req.IssuedAt > wire.At(now.Add(wire.ClockSkew)):
		return nil, refusal.New(refusal.BadTime, "the request is issued in the future")
	case at >= req.ExpiresAt:
		return nil, refusal.New(refusal.Expired, "the request expired at %s", req.ExpiresAt.Time().Format(time.RFC3339))
	}
	if err := checkParams(req.Params); err != nil {
		return nil, err
	}
	a := about(req, hash)
	a.ID, a.Decision = wire.NewNonce(), d
	a.IssuedAt = max(at, req.IssuedAt) // our clock may run a little behind the requester's
	a.ExpiresAt = min(a.IssuedAt+wire.Millis(Lifetime.Milliseconds()), req.ExpiresAt)
	return statement.Sign(signer, a)
}

// checkParams refuses what the system calls would cut short: the approver would
// have seen more than runs (attack E4).
func checkParams(p wire.Params) error {
	texts := append([]wire.Bytes{wire.Bytes(p.User), p.Cwd}, p.Argv...)
	for _, e := range p.Env {
		texts = append(texts, wire.Bytes(e.Name), e.Value)
	}
	for _, t := range texts {
		if bytes.IndexByte(t, 0) >= 0 {
			return refusal.New(refusal.BadArgument, "an argument, directory or variable holds a zero byte")
		}
	}
	return nil
}
