// Package change is a change of the roster on its way to enough owners'
// signatures: who proposes it signs first, the others look at it in plain words
// and sign the same bytes, and whoever holds the complete one publishes it.
//
//	file = "tucdesk-pending-v1\n" {"root":…,"chain":[…],"update":{…},"policy":"…"} "\n"
//
// The file travels by whatever way people have. It is not trusted: Open verifies
// the root by the pinned fingerprint, the chain from there on, every signature
// that the change has, and that the rules in it are those that it binds. So a
// file that was tampered with, is of another team or was overtaken by another
// change is refused by name, and what Words says is what is signed.
//
// Source: protocol 3.3; the way in which TUF's root keys rotate. Attacks G1, G2,
// G3, G13.
package change

import (
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// Change is a verified change that may still lack signatures.
type Change struct {
	File
	Before *roster.State // the version that it follows
	After  roster.Roster // what it says
	Signed []key.ID      // owners who have signed
	Short  int           // how many more have to
	Owners []key.ID      // whose next signature helps
}

// Propose signs next, which roster.Next or roster.First made to follow before, as
// its first owner. policyText is the text that next binds if before does not.
func Propose(before *roster.State, next roster.Roster, policyText []byte, by key.Private[key.Owner], now time.Time) (*Change, error) {
	update, err := roster.Sign(by, next)
	if err != nil {
		return nil, err
	}
	if next.PolicyHash == before.PolicyHash() {
		policyText = nil
	}
	f := File{Root: before.Root(), Chain: chainFor(before), Update: update, Policy: policyText}
	return f.over(before, now)
}

// Open verifies a file for a team with this fingerprint. have is the newest roster
// that is known here, nil for none: then the file's own chain is used, which the
// pinned fingerprint vouches for, but nobody says that it is the newest. Refusals:
// wrong_team; gap (a chain is needed); superseded (the roster moved on); expired,
// not_yet_valid; policy_mismatch; those of roster.State.Apply for chain, content
// and signatures, except that signatures may be missing.
func Open(f File, fingerprint key.Hash, have *roster.State, now time.Time) (*Change, error) {
	if f.Root.Hash() != fingerprint {
		return nil, refusal.New(refusal.WrongTeam, "the pending change is of another team")
	}
	before, err := f.base(fingerprint, have, now)
	if err != nil {
		return nil, err
	}
	return f.over(before, now)
}

// base is the newest roster that is known here or from the file's chain.
func (f File) base(fingerprint key.Hash, have *roster.State, now time.Time) (*roster.State, error) {
	if have == nil {
		var err error
		if have, err = roster.Begin(f.Root, fingerprint); err != nil {
			return nil, err
		}
	}
	known := have.Version()
	if known > 0 && known <= uint64(len(f.Chain)) && f.Chain[known-1].Statement.Hash() != have.Hash() {
		return nil, refusal.New(refusal.Fork, "the pending change rests on another roster version %d than the one known here", known)
	}
	for i := known; i < uint64(len(f.Chain)); i++ {
		next, err := have.Apply(f.Chain[i], now)
		if err != nil {
			return nil, err
		}
		have = next
	}
	return have, nil
}

var errInForce = refusal.New(refusal.Superseded, "this very change is in force already")

// IsInForce tells a change that is in force itself from one that another has
// overtaken. Both are superseded, but only the other has to be made again.
func IsInForce(err error) bool {
	var e *refusal.Error
	return errors.As(err, &e) && e == errInForce // not errors.Is, for which codes are enough
}

// over verifies the change itself against before.
func (f File) over(before *roster.State, now time.Time) (*Change, error) {
	c := &Change{File: f, Before: before}
	for _, u := range before.Chain() {
		if u.Statement.Hash() == f.Update.Statement.Hash() {
			return nil, errInForce
		}
	}
	var err error
	if c.After, err = before.Preview(f.Update); err != nil {
		return nil, err
	}
	if err := c.inTime(now); err != nil {
		return nil, err
	}
	if err := c.rules(); err != nil {
		return nil, err
	}
	return c, c.count()
}

func (c *Change) inTime(now time.Time) error {
	if c.After.IssuedAt.Time().After(now.Add(roster.MaxClockBack)) {
		return refusal.New(refusal.NotYetValid, "the change is issued in the future: this clock or its maker's is wrong")
	}
	if !now.Before(c.After.ExpiresAt.Time()) {
		return refusal.New(refusal.Expired, "the change waited until its roster expired; make it again")
	}
	return nil
}

// rules makes sure that the text in the file is what the change puts into force.
func (c *Change) rules() error {
	if c.After.PolicyHash == c.Before.PolicyHash() || c.After.PolicyHash.IsZero() {
		if len(c.Policy) > 0 {
			return refusal.New(refusal.PolicyMismatch, "the file carries rules that the change does not bind")
		}
		return nil
	}
	if sha256.Sum256(c.Policy) != c.After.PolicyHash {
		return refusal.New(refusal.PolicyMismatch, "the rules in the file are not those that the change binds")
	}
	_, err := policy.Parse(c.Policy)
	return err
}

// count verifies the signatures so far.
func (c *Change) count() (err error) {
	if c.Short, c.Owners, err = c.Before.Missing(c.Update); err != nil {
		return err
	}
	first, err := c.Update.Statement.Kid()
	c.Signed = []key.ID{first}
	for _, s := range c.Update.Cosignatures {
		c.Signed = append(c.Signed, s.Kid)
	}
	return err
}

// MaySign refuses a key whose signature the change does not need: of an owner who
// has signed, of anybody once it is complete, of nobody among the owners.
func (c *Change) MaySign(id key.ID) error {
	switch {
	case slices.Contains(c.Signed, id):
		return refusal.New(refusal.NotEnoughSignatures, "this owner has signed already")
	case c.Short == 0:
		return refusal.New(refusal.BadRequest, "the change has all its signatures")
	case !slices.ContainsFunc(slices.Concat(c.Before.Roster().Owners, c.After.Owners), func(o key.Public[key.Owner]) bool { return o.ID() == id }):
		return refusal.New(refusal.WrongRole, "this is not the key of an owner, before the change or after it")
	}
	return nil
}

// Sign adds an owner's signature.
func (c *Change) Sign(by key.Private[key.Owner]) error {
	if err := c.MaySign(by.ID()); err != nil {
		return err
	}
	update, err := roster.Cosign(by, c.Update)
	if err != nil {
		return err
	}
	c.Update = update
	return c.count()
}

// Apply returns the roster with the change in force, as everybody will check it;
// not_enough_signatures while some are missing.
func (c *Change) Apply(now time.Time) (*roster.State, error) { return c.Before.Apply(c.Update, now) }

// Publish is what the server is told.
func (c *Change) Publish() wire.RosterPublish {
	return wire.RosterPublish{Update: c.Update, Policy: c.Policy}
}

// Found is what a server is told that this change founds the team on.
func (c *Change) Found(setup roster.SetupInfo, signed statement.Signed) wire.SetupRequest {
	return wire.SetupRequest{Code: setup.Code, Setup: signed, Root: c.Root, Roster: []wire.RosterUpdate{c.Update}, Policy: c.Policy}
}
