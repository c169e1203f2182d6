package roster

import (
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// The finders below answer statement.Open's question "may this key say that".
// They do not ask whether the roster itself is in force: that is Check, once per
// decision, because a policy may grant an offline grace.

// Operator returns the entry of an operator's key that may act at now. Otherwise
// key_revoked; wrong_role when the key is the team's but no operator's (attack
// G13); expired after its own end; unknown_key for all others, be their e-mail
// address that of a member (attack E17).
func (s *State) Operator(id key.ID, now time.Time) (Operator, error) {
	if err := s.notRevoked(id); err != nil {
		return Operator{}, err
	}
	i, ok := s.operators[id]
	if !ok {
		return Operator{}, s.notFound(id)
	}
	o := s.roster.Operators[i]
	if !within(wire.At(now), 0, o.NotAfter) {
		return Operator{}, refusal.New(refusal.Expired, "key %s was valid until %s", id.ShortCode(), o.NotAfter.Time().Format(time.RFC3339))
	}
	return o, nil
}

// FindOperator finds operators' keys that may act at now.
func (s *State) FindOperator(now time.Time) func(key.ID) (statement.Verifier, error) {
	return func(id key.ID) (statement.Verifier, error) {
		o, err := s.Operator(id, now)
		if err != nil {
			return nil, err
		}
		return o.Key, nil
	}
}

// FindOwner finds the owners' keys, which sign setup statements.
func (s *State) FindOwner(id key.ID) (statement.Verifier, error) {
	if v, err := (quorum{owners: s.roster.Owners}).find(id); err == nil {
		return v, nil
	}
	return nil, s.notFound(id)
}

// FindGrant finds the servers' keys that sign grants.
func (s *State) FindGrant(id key.ID) (statement.Verifier, error) {
	if err := s.notRevoked(id); err != nil {
		return nil, err
	}
	for _, v := range s.roster.Servers {
		if v.Keys.Grant.ID() == id {
			return v.Keys.Grant, nil
		}
	}
	return nil, s.notFound(id)
}

// Server returns the server that has this access key.
func (s *State) Server(access key.ID) (Server, error) {
	if err := s.notRevoked(access); err != nil {
		return Server{}, err
	}
	for _, v := range s.roster.Servers {
		if v.Keys.Access.ID() == access {
			return v, nil
		}
	}
	return Server{}, s.notFound(access)
}

// Revoked reports whether the key of any role is revoked.
func (s *State) Revoked(id key.ID) bool {
	_, revoked := s.revoked[id]
	return revoked
}

func (s *State) notRevoked(id key.ID) error {
	if s.Revoked(id) {
		return refusal.New(refusal.KeyRevoked, "key %s is revoked", id.ShortCode())
	}
	return nil
}

// notFound tells a key of another role from a stranger's.
func (s *State) notFound(id key.ID) error {
	if role := s.roleOf(id); role != "" {
		return refusal.New(refusal.WrongRole, "key %s is of role %s", id.ShortCode(), role)
	}
	return refusal.New(refusal.UnknownKey, "key %s is not in the roster", id.ShortCode())
}

// roleOf names the role in which the newest version lists a key, or "".
func (s *State) roleOf(id key.ID) string {
	if _, ok := s.operators[id]; ok {
		return "operator"
	}
	if k, ok := s.signers[id]; ok && k.until == 0 {
		return k.role()
	}
	for _, v := range s.roster.Servers {
		if id == v.Keys.Access.ID() || id == v.Keys.Grant.ID() || id == v.Keys.Audit.ID() {
			return "server"
		}
	}
	return ""
}
