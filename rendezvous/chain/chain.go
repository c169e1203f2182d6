// Package chain is what a server knows of one team's rosters: the newest one, which
// it has followed from the root on, with the policy that it binds; and what somebody
// who has an older version needs next (protocol 3.3).
//
// The database holds the statements and is the truth; a State is the result of
// verifying them, kept because verifying a chain again for every call would cost
// more than the call.
package chain

import (
	"fmt"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/store"
)

// State is a roster and the policy it binds. It never changes.
type State struct {
	Roster *roster.State
	Name   string        // of this server in the roster, the first part of the log's origin
	Rules  *policy.Rules // nil: the roster binds no policy, so nothing is allowed
	Text   []byte        // of the policy
}

// Of makes the state of a roster whose policy is not at hand. Name is that of the
// server in it, or before if the roster does not list it any more: the log keeps its
// origin.
func Of(server key.ID, state *roster.State, before string) State {
	next := State{Roster: state, Name: before}
	if listed, err := state.Server(server); err == nil {
		next.Name = listed.Name
	}
	return next
}

// With joins a roster and the policy text that came with it, which must be the one
// that the roster means, or none if it binds none. It keeps a copy of text.
func With(server key.ID, state *roster.State, before string, text []byte) (State, error) {
	next := Of(server, state, before)
	if state.PolicyHash().IsZero() {
		if len(text) > 0 {
			return next, refusal.New(refusal.PolicyMismatch, "the roster names no policy")
		}
		return next, nil
	}
	var err error
	next.Rules, err = parse(text, state.PolicyHash())
	next.Text = append([]byte(nil), text...)
	return next, err
}

// parse takes a policy text only if the roster means exactly it.
func parse(text []byte, want key.Hash) (*policy.Rules, error) {
	rules, err := policy.Parse(text)
	if err != nil {
		return nil, refusal.New(refusal.BadRequest, "the policy cannot be loaded: %v", err)
	}
	if rules.Hash() != want {
		return nil, refusal.New(refusal.PolicyMismatch, "the policy text is not the one that the roster names")
	}
	return rules, nil
}

// Load follows what is stored after have, which may be nil, and joins it with its
// policy. A stored chain that does not verify is damage, not a decision: nobody is
// served by it.
func Load(tx *store.Tx, server key.ID, record store.Team, have *State) (State, error) {
	next, err := follow(tx, server, record, have)
	if err != nil || next.Roster.PolicyHash().IsZero() {
		return next, err
	}
	text, err := tx.Policy(next.Roster.PolicyHash())
	if err != nil {
		return next, err
	}
	return With(server, next.Roster, next.Name, text)
}

func follow(tx *store.Tx, server key.ID, record store.Team, have *State) (State, error) {
	var next State
	from := uint64(0)
	if have != nil {
		next, from = Of(server, have.Roster, have.Name), have.Roster.Version()
	}
	updates, err := tx.RosterUpdates(from)
	if err != nil {
		return next, err
	}
	for _, u := range updates {
		state := next.Roster
		if state == nil {
			state, err = roster.Found(record.Root, record.Fingerprint, u)
		} else {
			state, err = state.Apply(u, time.Now())
		}
		if err != nil {
			return next, fmt.Errorf("the stored roster of team %s does not verify: %v", record.ID, err)
		}
		next = Of(server, state, next.Name)
	}
	if next.Roster == nil {
		return next, fmt.Errorf("team %s has no stored roster", record.ID)
	}
	return next, nil
}

// MayOpen reports why no new session may begin, the policy's grace considered.
func (s State) MayOpen(now time.Time) error {
	err := s.Roster.Check(now)
	if refusal.Of(err) == refusal.RosterExpired && s.Rules != nil && now.Before(s.Roster.ExpiresAt().Add(s.Rules.RosterGrace())) {
		return nil
	}
	return err
}

// MaySession reports why an operator has no sessions by this roster.
func (s State) MaySession(operator key.ID, now time.Time) error {
	op, err := s.Roster.Operator(operator, now)
	if err != nil {
		return err
	}
	if !op.Role.AtLeast(policy.Operator) {
		return refusal.New(refusal.WrongRole, "role %s has no sessions", op.Role)
	}
	return nil
}

// maxNews is how many bytes of statements and policy one answer or message
// carries, before base64; more are asked for again, or follow. It fits the largest
// single roster (protocol 4.1) with its policy, and in base64 stays below
// wire.MaxNews and what a client reads.
const maxNews = wire.MaxBody

// News returns what someone who has version from needs next: as many updates as
// fit, and the policy with the last of them. done says that nothing is left.
func (s State) News(from uint64) (n wire.RosterNews, done bool) {
	size := 0
	if from == 0 {
		n.Root = s.Roster.Root()
		size = len(n.Root)
	}
	updates := s.Roster.After(from)
	for i, u := range updates {
		size += len(u.Statement)
		for _, c := range u.Cosignatures {
			size += len(c.Kid) + len(c.Sig)
		}
		if i == len(updates)-1 {
			size += len(s.Text)
		}
		if i > 0 && size > maxNews {
			break
		}
		n.Updates = append(n.Updates, u)
	}
	if len(n.Updates) == len(updates) {
		n.Policy, done = s.Text, true
	}
	return n, done
}
