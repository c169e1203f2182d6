package roster

import (
	"slices"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// SignRoot founds a team: the hash of the result is the team fingerprint. by is
// one of root's owners.
func SignRoot(by key.Private[key.Owner], root Root) (statement.Signed, error) {
	if err := root.Validate(); err != nil {
		return nil, err
	}
	if _, err := (quorum{root.Owners, root.Threshold}).find(by.ID()); err != nil {
		return nil, err
	}
	return statement.Sign(by, root)
}

// First returns version 1 for a root with the given fingerprint: no members yet,
// owners and threshold from the root, changed by edit, which sets the times with
// Renew.
func First(root Root, fingerprint key.Hash, edit func(*Roster)) Roster {
	r := Roster{
		Owners: slices.Clone(root.Owners), Threshold: root.Threshold,
		Servers: []Server{}, Operators: []Operator{}, Enrollers: []Enroller{}, Revoked: []key.ID{},
	}
	edit(&r)
	r.Team, r.Version, r.Previous = root.Team, 1, fingerprint
	return r
}

// Next returns the version that follows s, changed by edit, which sets the times
// with Renew. What links it to s is not edit's to change.
func Next(s *State, edit func(*Roster)) Roster {
	r := s.Roster()
	edit(&r)
	r.Team, r.Version, r.Previous = s.Team(), s.Version()+1, s.hash
	return r
}

// Renew sets the times: from now for lifetime, at most MaxLifetime. A version is
// never issued before the one it follows, so a clock that runs behind the last
// owner's keeps that owner's time.
func (r *Roster) Renew(now time.Time, lifetime time.Duration) {
	r.IssuedAt = max(r.IssuedAt, wire.At(now))
	r.ExpiresAt = r.IssuedAt + wire.Millis(min(lifetime, MaxLifetime).Milliseconds())
}

// Revoke adds keys of any role to the revoked ones, each once, and takes away
// owners among them. Entries of operators stay, so that the log can still name
// the person; revocation wins over them.
func (r *Roster) Revoke(ids ...key.ID) {
	for _, id := range ids {
		if !slices.Contains(r.Revoked, id) {
			r.Revoked = append(r.Revoked, id)
		}
	}
	r.Owners = slices.DeleteFunc(r.Owners, func(o key.Public[key.Owner]) bool { return slices.Contains(ids, o.ID()) })
}

// Sign checks and signs a version. by has to be an owner in the version before
// it; State.Missing says whose signatures are wanted besides.
func Sign(by key.Private[key.Owner], r Roster) (wire.RosterUpdate, error) {
	if err := r.Validate(); err != nil {
		return wire.RosterUpdate{}, err
	}
	signed, err := statement.Sign(by, r)
	return wire.RosterUpdate{Statement: signed, Cosignatures: []statement.Cosignature{}}, err
}

// Cosign adds an owner's signature to u. An owner who looks at u first opens it
// with Preview: signing unseen is how one stolen key becomes two.
func Cosign(by key.Private[key.Owner], u wire.RosterUpdate) (wire.RosterUpdate, error) {
	if first, err := u.Statement.Kid(); err != nil {
		return wire.RosterUpdate{}, err
	} else if first == by.ID() || slices.ContainsFunc(u.Cosignatures, func(c statement.Cosignature) bool { return c.Kid == by.ID() }) {
		return wire.RosterUpdate{}, refusal.New(refusal.NotEnoughSignatures, "this owner has signed already")
	}
	c, err := statement.Cosign(by, u.Statement)
	if err != nil {
		return wire.RosterUpdate{}, err
	}
	u.Cosignatures = append(slices.Clip(u.Cosignatures), c)
	return u, nil
}

// Preview returns what u says when it could follow s and at least its own
// signature is right, although signatures may be missing: for a cosigner to look
// at, never to act on. A change that another one has overtaken is superseded.
func (s *State) Preview(u wire.RosterUpdate) (Roster, error) {
	r, _, _, err := s.openFirst(u.Statement)
	switch {
	case refusal.Of(err) == refusal.Rollback || err == nil && r.Version == s.Version():
		return Roster{}, refusal.New(refusal.Superseded, "the roster is at version %d by now; this change was made for an earlier one", s.Version())
	case err != nil:
		return Roster{}, err
	case r.Previous != s.hash:
		return Roster{}, refusal.New(refusal.BadChain, "roster version %d does not follow the version %d known here", r.Version, s.Version())
	case r.IssuedAt < s.roster.IssuedAt:
		return Roster{}, refusal.New(refusal.BadTime, "roster version %d is issued before the version it follows", r.Version)
	}
	return r, r.Validate()
}

// SignToken checks and signs a join token. by is an enroller's or an owner's key,
// whose limits State.VerifyToken knows.
func SignToken[R key.Enroller | key.Owner](by key.Private[R], t Token) (statement.Signed, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	return statement.Sign(by, t)
}

// SignAgent checks and signs a host's certificate with the token's key, as the
// host does when it joins. It keeps to what the token allows.
func SignAgent(by key.Private[key.Token], token Token, c AgentCert) (statement.Signed, error) {
	if by.Public() != token.Key {
		return nil, refusal.New(refusal.WrongRole, "the key is not the token's")
	}
	signed, err := statement.Sign(by, c)
	if err != nil {
		return nil, err
	}
	_, err = openCert(token, signed)
	return signed, err
}

// SignSetup signs a setup statement for the server that printed info.
func SignSetup(by key.Private[key.Owner], s *State, info SetupInfo, now time.Time) (statement.Signed, error) {
	return statement.Sign(by, Setup{
		ID: wire.NewNonce(), IssuedAt: wire.At(now), Team: s.Team(), Root: s.fingerprint,
		Code: SetupCodeHash(info.Code), Server: info.Keys.Access.ID(),
	})
}
