package store

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// Request is a session request that waits, or waited, for approvals.
type Request struct {
	Hash      key.Hash // of Statement
	Session   wire.SessionID
	Operator  key.ID
	Agent     key.ID
	Statement statement.Signed // wire.Request
	Open      wire.Bytes       // M1, for when the request is approved
	State     wire.RequestState
	Rule      string
	Need      int
	Roles     []string
	CreatedAt wire.Millis
	ExpiresAt wire.Millis
	Approvals []statement.Signed // all decisions so far, oldest first; not read by PutRequest
}

// Info is the request as the API shows it.
func (r Request) Info() wire.RequestInfo {
	return wire.RequestInfo{
		Hash: r.Hash, Request: r.Statement, State: r.State, Rule: r.Rule, Need: r.Need,
		Roles: r.Roles, Approvals: r.Approvals, ExpiresAt: r.ExpiresAt,
	}
}

// Size is about how long Info is on the wire, in bytes.
func (r Request) Size() int {
	n := len(r.Statement)
	for _, a := range r.Approvals {
		n += len(a)
	}
	return n
}

// PutRequest stores a verified request in the state it carries. A request or a
// session id that is stored already is replay.
func (t *Tx) PutRequest(r Request) error {
	roles, err := json.Marshal(r.Roles)
	if err != nil {
		return fmt.Errorf("storing a request: %v", err)
	}
	n, err := t.exec("storing a request", insertRequest, t.id, r.Hash[:], r.Session[:], r.Operator[:], r.Agent[:], bytesOf(r.Statement),
		bytesOf(r.Open), string(r.State), r.Rule, r.Need, string(roles), int64(r.CreatedAt), int64(r.ExpiresAt))
	if err == nil && n == 0 {
		err = refusal.New(refusal.Replay, "the request or its session id was used before")
	}
	return err
}

// Request returns one request with its approvals.
func (t *Tx) Request(hash key.Hash) (Request, error) {
	list, err := t.requests(selectRequest, t.id, hash[:])
	if err == nil && len(list) == 0 {
		err = refusal.New(refusal.NotFound, "no such request")
	}
	if err != nil {
		return Request{}, err
	}
	return list[0], nil
}

// OpenRequests counts the requests of an operator that are neither used nor over.
func (t *Tx) OpenRequests(operator key.ID) (n int, err error) {
	_, err = t.row("counting requests", countOpen, []any{t.id, operator[:]}, &n)
	return n, err
}

// NextDue returns when the next open request expires, 0 when none is open.
func (t *Tx) NextDue() (due wire.Millis, err error) {
	_, err = t.row("looking for the next request to expire", nextDue, []any{t.id}, &due)
	return due, err
}

// Requests returns limit requests, the open ones first and then the newest first;
// limit is 1 to MaxPage. Settled ones must not push out what people have to decide.
func (t *Tx) Requests(limit int) ([]Request, error) {
	if limit < 1 || limit > MaxPage {
		return nil, refusal.New(refusal.BadCursor, "a list has 1 to %d rows", MaxPage)
	}
	return t.requests(selectRequests, t.id, limit)
}

func (t *Tx) requests(query string, args ...any) ([]Request, error) {
	var list []Request
	err := t.rows("reading requests", query, args, func(scan func(...any) error) error {
		r, err := scanRequest(scan)
		list = append(list, r)
		return err
	})
	for i := range list {
		if err == nil {
			list[i].Approvals, err = t.approvals(list[i].Hash)
		}
	}
	return list, err
}

func scanRequest(scan func(...any) error) (Request, error) {
	var r Request
	var roles string
	err := scan(fixed(r.Hash[:]), fixed(r.Session[:]), fixed(r.Operator[:]), fixed(r.Agent[:]), (*[]byte)(&r.Statement), (*[]byte)(&r.Open),
		&r.State, &r.Rule, &r.Need, &roles, &r.CreatedAt, &r.ExpiresAt)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal([]byte(roles), &r.Roles)
}

func (t *Tx) approvals(hash key.Hash) ([]statement.Signed, error) {
	var list []statement.Signed
	err := t.rows("reading approvals", selectApprovals, []any{t.id, hash[:]}, func(scan func(...any) error) error {
		var s statement.Signed
		err := scan((*[]byte)(&s))
		list = append(list, s)
		return err
	})
	return list, err
}

// Approval is one person's decision about a request.
type Approval struct {
	Request   key.Hash
	ID        wire.Nonce
	Approver  key.ID
	Decision  string           // "approve" or "deny"
	Statement statement.Signed // approval.Approval
}

// AddApproval stores a verified decision and returns the request with all of
// them. The request's row stays locked until the transaction ends, so of two
// people who decide at once the second sees the first and whoever completes the
// number sees that it is complete (attacks E12, K8). A request that is decided,
// expired or gone refuses; the same decision of the same person again is replay.
func (t *Tx) AddApproval(a Approval, now time.Time) (Request, error) {
	n, err := t.exec("locking a request", touchOpenRequest, t.id, a.Request[:], millis(now))
	if err != nil {
		return Request{}, err
	}
	if n == 0 {
		return Request{}, t.whyClosed(a.Request, now)
	}
	hash := a.Statement.Hash()
	n, err = t.exec("storing an approval", insertApproval, t.id, a.Request[:], a.Approver[:], a.Decision, a.ID[:], hash[:], millis(now))
	if err != nil || n == 0 {
		return Request{}, either(err, refusal.New(refusal.Replay, "this decision was made before"))
	}
	if _, err = t.exec("storing an approval", insertEvidence, t.id, hash[:], bytesOf(a.Statement)); err != nil {
		return Request{}, err
	}
	return t.Request(a.Request)
}

// SetRequestState moves a request, in one statement, so that of two movers only
// one wins; the other gets the refusal that names the state it found.
func (t *Tx) SetRequestState(hash key.Hash, from, to wire.RequestState, now time.Time) error {
	n, err := t.exec("moving a request", moveRequest, t.id, hash[:], string(from), string(to), millis(now))
	if err != nil || n == 1 {
		return err
	}
	return t.whyClosed(hash, now)
}

// ReopenRequest lets a used request wait again, with r's rule, number and roles,
// for approvals that its agent found missing. In one statement, like every move.
func (t *Tx) ReopenRequest(r Request, now time.Time) error {
	roles, err := json.Marshal(r.Roles)
	if err != nil {
		return fmt.Errorf("reopening a request: %v", err)
	}
	n, err := t.exec("reopening a request", reopenRequest, t.id, r.Hash[:], r.Rule, r.Need, string(roles), millis(now))
	if err != nil || n == 1 {
		return err
	}
	return t.whyClosed(r.Hash, now)
}

func (t *Tx) whyClosed(hash key.Hash, now time.Time) error {
	r, err := t.Request(hash)
	if err != nil {
		return err
	}
	switch r.State {
	case wire.RequestDenied:
		return refusal.New(refusal.ApprovalDenied, "the request was denied")
	case wire.RequestCancelled:
		return refusal.New(refusal.ApprovalCancelled, "the request was cancelled")
	case wire.RequestUsed:
		return refusal.New(refusal.ApprovalUsed, "the request was used")
	case wire.RequestPending:
		if r.ExpiresAt.Time().After(now) {
			return refusal.New(refusal.ApprovalPending, "the request still waits")
		}
	}
	return refusal.New(refusal.ApprovalExpired, "the request is no longer open")
}

// ExpireRequests ends every open request whose time is over and returns their
// hashes, so that each gets its audit entry in the same transaction.
func (t *Tx) ExpireRequests(now time.Time) ([]key.Hash, error) {
	var list []key.Hash
	err := t.rows("expiring requests", expireRequests, []any{t.id, millis(now)}, func(scan func(...any) error) error {
		var h key.Hash
		err := scan(fixed(h[:]))
		list = append(list, h)
		return err
	})
	return list, err
}

// Settled requests are kept for people to look at, and to answer whoever asks again;
// our choice. What the log stands on, the signed approvals, is kept for ever.
const (
	KeepSettled = 7 * 24 * time.Hour // since the last change
	MaxSettled  = 2000               // of one team; older ones go sooner
)

// PruneRequests forgets settled requests that are older than KeepSettled or beyond
// MaxSettled, but none before it expired and pruneMargin more: until then its state
// is what keeps it from being used again.
func (t *Tx) PruneRequests(now time.Time) (int64, error) {
	before := millis(now.Add(-KeepSettled))
	var newest int64
	if _, err := t.row("counting settled requests", settledSince, []any{t.id, MaxSettled}, &newest); err != nil {
		return 0, err
	}
	before = max(before, newest)
	over := millis(now.Add(-pruneMargin))
	if _, err := t.exec("forgetting decisions", pruneApproval, t.id, before, over); err != nil {
		return 0, err
	}
	return t.exec("forgetting requests", pruneRequests, t.id, before, over)
}
