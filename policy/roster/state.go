package roster

import (
	"maps"
	"slices"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// MaxChain bounds all statements of one chain together, in bytes: some 400
// versions of the largest roster, or a few hundred thousand of a small team's.
// Our choice.
const MaxChain = 1 << 30

// State is a verified chain up to its newest version. It never changes: Apply
// returns a new one, so a State may be shared between goroutines and a session
// keeps the one it was opened under.
type State struct {
	fingerprint key.Hash
	root        statement.Signed
	chain       []wire.RosterUpdate // all versions from 1; only ever appended to
	size        int                 // bytes of the chain's statements
	roster      Roster
	hash        key.Hash

	quorum    quorum // that signed the newest version
	operators map[key.ID]int
	revoked   keySet
	signers   map[key.ID]signer // who may, or once might, sign join tokens
}

// Found starts a chain: root must have the pinned fingerprint, and v1 must be
// its first version. v1 may have expired, since it may be the first of many;
// Check is for that. A root of another team is refused with bad_chain.
func Found(root statement.Signed, fingerprint key.Hash, v1 wire.RosterUpdate) (*State, error) {
	before, err := Begin(root, fingerprint)
	if err != nil {
		return nil, err
	}
	return before.extend(v1)
}

// Begin is the state before the first version: of version 0, with the root's
// owners and nobody else, expired. It is for owners who found a team and collect
// the signatures of version 1; Apply leads on from it as from any other.
func Begin(root statement.Signed, fingerprint key.Hash) (*State, error) {
	r, err := OpenRoot(root, fingerprint)
	if err != nil {
		return nil, err
	}
	return &State{
		fingerprint: fingerprint,
		root:        slices.Clone(root),
		roster:      Roster{Team: r.Team, Owners: r.Owners, Threshold: r.Threshold},
		hash:        fingerprint,
	}, nil
}

// OpenRoot verifies a team root against the fingerprint that a person pinned; a
// root of another team is refused with bad_chain.
func OpenRoot(root statement.Signed, fingerprint key.Hash) (Root, error) {
	if root.Hash() != fingerprint || fingerprint.IsZero() {
		return Root{}, refusal.New(refusal.BadChain, "the root does not have the pinned fingerprint")
	}
	r, _, err := statement.OpenSelfSigned(root, func(r Root, id key.ID) (statement.Verifier, error) {
		return quorum{r.Owners, r.Threshold}.find(id)
	})
	if err != nil {
		return Root{}, err
	}
	return r, r.Validate()
}

// Apply checks u against the rules of protocol 3.3 and returns the state with
// it. u that is already the newest version gives s back. Otherwise a refusal:
// wrong_team; rollback (an older version); gap (versions between are missing);
// not_enough_signatures, wrong_role, unknown_key, bad_signature (who signed);
// fork (the newest version again, rightly signed, with other content: refuse new
// sessions and raise the alarm); bad_chain (does not follow ours);
// not_yet_valid (issued further ahead of now than MaxClockBack: this or the
// owner's clock is wrong); too_many, bad_name and the like for its content.
// s stays as it was, whatever is returned.
func (s *State) Apply(u wire.RosterUpdate, now time.Time) (*State, error) {
	if u.Statement.Hash() == s.hash {
		return s, nil
	}
	next, err := s.extend(u)
	if err != nil {
		return nil, err
	}
	if next.roster.IssuedAt.Time().After(now.Add(MaxClockBack)) {
		return nil, refusal.New(refusal.NotYetValid, "roster version %d is issued in the future", next.Version())
	}
	return next, nil
}

// extend is Apply without the clock, which is how a stored chain is read again.
func (s *State) extend(u wire.RosterUpdate) (*State, error) {
	r, err := s.open(u)
	if err != nil {
		return nil, err
	}
	switch {
	case r.Version == s.roster.Version:
		return nil, refusal.New(refusal.Fork, "two rosters of version %d, both rightly signed", r.Version)
	case r.Previous != s.hash:
		return nil, refusal.New(refusal.BadChain, "roster version %d does not follow the version %d known here", r.Version, s.Version())
	case r.IssuedAt < s.roster.IssuedAt:
		return nil, refusal.New(refusal.BadTime, "roster version %d is issued before the version it follows", r.Version)
	}
	if err := r.Validate(); err != nil {
		return nil, err
	}
	if s.size+len(u.Statement) > MaxChain {
		return nil, refusal.New(refusal.TooLarge, "the chain of rosters grows beyond %d bytes", MaxChain)
	}
	return s.follow(r, u), nil
}

// open verifies u's signatures.
func (s *State) open(u wire.RosterUpdate) (Roster, error) {
	r, must, first, err := s.openFirst(u.Statement)
	if err != nil {
		return Roster{}, err
	}
	return r, s.countSigners(must, first, u.Cosignatures, u.Statement)
}

// openFirst verifies the statement's own signature and returns who must sign it
// and who did. The payload is decoded before it is verified, since it says which
// owners must have signed and, as it may bring new ones, with what keys; until
// then it is used for nothing but refusing.
func (s *State) openFirst(u statement.Signed) (r Roster, must []quorum, first key.ID, err error) {
	r, first, err = statement.OpenSelfSigned(u, func(r Roster, id key.ID) (statement.Verifier, error) {
		if err := s.place(r); err != nil {
			return nil, err
		}
		must = s.mustSign(r)
		return s.signerOf(must, id)
	})
	return r, must, first, err
}

// place says whether r is the newest version again or the next one of ours.
func (s *State) place(r Roster) error {
	switch {
	case r.Team != s.roster.Team:
		return refusal.New(refusal.WrongTeam, "the roster is of another team")
	case r.Version < s.roster.Version || r.Version == 0:
		return refusal.New(refusal.Rollback, "roster version %d, and version %d is known", r.Version, s.Version())
	case r.Version > s.roster.Version && r.Version-s.roster.Version > 1:
		return refusal.New(refusal.Gap, "roster version %d, and only version %d is known", r.Version, s.Version())
	}
	return nil
}

func (s *State) follow(r Roster, u wire.RosterUpdate) *State {
	u.Statement, u.Cosignatures = slices.Clone(u.Statement), slices.Clone(u.Cosignatures)
	next := &State{
		fingerprint: s.fingerprint,
		root:        s.root,
		chain:       append(slices.Clip(s.chain), u),
		size:        s.size + len(u.Statement),
		roster:      r,
		hash:        u.Statement.Hash(),
		quorum:      quorum{s.roster.Owners, s.roster.Threshold},
		operators:   make(map[key.ID]int, len(r.Operators)),
		revoked:     make(keySet, len(r.Revoked)),
	}
	for i, o := range r.Operators {
		next.operators[o.Key.ID()] = i
	}
	for _, id := range r.Revoked {
		next.revoked[id] = struct{}{}
	}
	next.signers = nextSigners(s.signers, r)
	return next
}

// Roster returns a copy of the newest version.
func (s *State) Roster() Roster { return clone(s.roster) }

func clone(r Roster) Roster {
	r.Owners, r.Servers = slices.Clone(r.Owners), slices.Clone(r.Servers)
	r.Operators, r.Revoked = slices.Clone(r.Operators), slices.Clone(r.Revoked)
	r.Enrollers = slices.Clone(r.Enrollers)
	for i := range r.Enrollers {
		r.Enrollers[i].Tags = slices.Clone(r.Enrollers[i].Tags)
	}
	return r
}

// Hash returns the hash of the newest version's statement, which requests and
// handshakes name.
func (s *State) Hash() key.Hash { return s.hash }

// Version returns the number of the newest version.
func (s *State) Version() uint64 { return s.roster.Version }

// Team returns the team's id.
func (s *State) Team() wire.TeamID { return s.roster.Team }

// Fingerprint returns the hash of the root, by which people know the team.
func (s *State) Fingerprint() key.Hash { return s.fingerprint }

// PolicyHash returns the SHA-256 of the policy text in force, or zero.
func (s *State) PolicyHash() key.Hash { return s.roster.PolicyHash }

// IssuedAt returns when the newest version was signed.
func (s *State) IssuedAt() time.Time { return s.roster.IssuedAt.Time() }

// ExpiresAt returns until when the newest version carries new sessions.
func (s *State) ExpiresAt() time.Time { return s.roster.ExpiresAt.Time() }

// Root returns the root's statement.
func (s *State) Root() statement.Signed { return slices.Clone(s.root) }

// Chain returns all updates from version 1 on. The slice is the caller's, the
// statements in it are shared and must not be written to.
func (s *State) Chain() []wire.RosterUpdate { return slices.Clone(s.chain) }

// After returns the updates that follow version, oldest first, to bring someone
// else up to date; none when version is ours or newer.
func (s *State) After(version uint64) []wire.RosterUpdate {
	if version >= uint64(len(s.chain)) {
		return nil
	}
	return slices.Clone(s.chain[version:])
}

// Check reports why no new session may begin at now: roster_expired, or
// bad_time when now lies more than MaxClockBack before the roster was signed,
// which no right clock can show (attack G4).
func (s *State) Check(now time.Time) error {
	if err := Sane(s.IssuedAt(), now); err != nil {
		return err
	}
	if !now.Before(s.ExpiresAt()) {
		return refusal.New(refusal.RosterExpired, "roster version %d expired at %s; an owner has to renew it", s.Version(), s.ExpiresAt().Format(time.RFC3339))
	}
	return nil
}

// Sane reports bad_time when the clock has gone back by more than MaxClockBack
// since lastSeen. Such a clock revives expired rosters, tokens and approvals, so
// nothing new is accepted until it is right again (protocol 3.3). The zero
// lastSeen has seen nothing.
func Sane(lastSeen, now time.Time) error {
	if !lastSeen.IsZero() && now.Before(lastSeen.Add(-MaxClockBack)) {
		return refusal.New(refusal.BadTime, "the clock went back by more than %v, or was ahead before", MaxClockBack)
	}
	return nil
}

// Seen returns the time to remember for the next call of Sane. It follows the
// clock only while the roster is in force: a clock that jumps ahead by a year is
// an expired roster until it is set right, not a year of refusals after that.
func (s *State) Seen(lastSeen, now time.Time) time.Time {
	if now.Before(lastSeen) || s.Check(now) != nil {
		return lastSeen
	}
	return now
}

func nextSigners(before map[key.ID]signer, r Roster) map[key.ID]signer {
	next := maps.Clone(before)
	if next == nil {
		next = make(map[key.ID]signer)
	}
	for id, s := range next {
		if s.until == 0 {
			s.until = r.IssuedAt // unless found again below
			next[id] = s
		}
	}
	for _, o := range r.Owners {
		next[o.ID()] = signer{key: o, owner: true, seconds: int64(MaxTokenLifetime.Seconds())}
	}
	for _, e := range r.Enrollers {
		next[e.Key.ID()] = signer{key: e.Key, tags: e.Tags, seconds: e.MaxLifetime}
	}
	return next
}
