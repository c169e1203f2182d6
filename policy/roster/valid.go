package roster

import (
	"strings"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

// The rules below hold for signed content too: a limit or an alphabet that only
// the signing side kept would be no limit for whoever stole one signing key.

// Validate reports the first rule that a root breaks.
func (r Root) Validate() error {
	if !policy.ValidAgentName(r.Name) {
		return refusal.New(refusal.BadName, "team name: want 1 to %d of a-z, 0-9, . and -", MaxName)
	}
	seen := make(keySet)
	return validOwners(seen, r.Owners, r.Threshold)
}

// Validate reports the first rule that the content of a roster breaks, whoever
// signed it. Links to the version before are State.Apply's.
func (r Roster) Validate() error {
	switch {
	case r.Version == 0:
		return refusal.New(refusal.BadStatement, "roster version 0")
	case r.IssuedAt <= 0 || r.ExpiresAt <= r.IssuedAt || int64(r.ExpiresAt-r.IssuedAt) > MaxLifetime.Milliseconds():
		return refusal.New(refusal.BadTime, "a roster lives more than 0 and at most %v", MaxLifetime)
	}
	if err := validMinVersion(r.MinVersion); err != nil {
		return err
	}
	seen := make(keySet)
	if err := validOwners(seen, r.Owners, r.Threshold); err != nil {
		return err
	}
	for _, check := range []func(keySet) error{r.validServers, r.validOperators, r.validEnrollers, r.validRevoked} {
		if err := check(seen); err != nil {
			return err
		}
	}
	return nil
}

// keySet finds a key that stands in two places. An owner's key signs nothing but
// rosters, and no key has two roles (attack G13).
type keySet map[key.ID]struct{}

func (s keySet) add(what string, id key.ID) error {
	if _, twice := s[id]; twice {
		return refusal.New(refusal.WrongRole, "key %s of %s stands in the roster twice", id.ShortCode(), what)
	}
	s[id] = struct{}{}
	return nil
}

func validOwners(seen keySet, owners []key.Public[key.Owner], threshold int) error {
	if err := atMost("owners", len(owners), MaxOwners); err != nil {
		return err
	}
	if threshold < 1 || threshold > len(owners) {
		return refusal.New(refusal.BadStatement, "threshold %d for %d owners", threshold, len(owners))
	}
	for _, o := range owners {
		if err := seen.add("an owner", o.ID()); err != nil {
			return err
		}
	}
	return nil
}

func (r Roster) validServers(seen keySet) error {
	if err := atMost("servers", len(r.Servers), MaxServers); err != nil {
		return err
	}
	names := make(map[string]bool, len(r.Servers))
	for _, s := range r.Servers {
		if !policy.ValidAgentName(s.Name) || names[s.Name] {
			return refusal.New(refusal.BadName, "server name: want 1 to %d of a-z, 0-9, . and -, each once", MaxName)
		}
		names[s.Name] = true
		if err := validAddress(s.Address()); err != nil {
			return err
		}
		for _, id := range []key.ID{s.Keys.Access.ID(), s.Keys.Grant.ID(), s.Keys.Audit.ID()} {
			if err := seen.add("a server", id); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r Roster) validOperators(seen keySet) error {
	if err := atMost("operators", len(r.Operators), MaxOperators); err != nil {
		return err
	}
	for _, o := range r.Operators {
		switch {
		case !ValidEmail(o.Email):
			return refusal.New(refusal.BadName, "e-mail of key %s is not one plain address", o.Key.ID().ShortCode())
		case !validPerson(o.Person):
			return refusal.New(refusal.BadName, "person of key %s: want 1 to %d of a-z, 0-9 and . _ @ + -", o.Key.ID().ShortCode(), MaxText)
		case !o.Role.Valid() || o.NotAfter < 0:
			return refusal.New(refusal.BadStatement, "role or end of key %s", o.Key.ID().ShortCode())
		}
		if err := seen.add("an operator", o.Key.ID()); err != nil {
			return err
		}
	}
	return nil
}

func (r Roster) validEnrollers(seen keySet) error {
	if err := atMost("enrollers", len(r.Enrollers), MaxEnrollers); err != nil {
		return err
	}
	for _, e := range r.Enrollers {
		if e.MaxLifetime < 1 || e.MaxLifetime > int64(MaxTokenLifetime.Seconds()) {
			return refusal.New(refusal.BadTime, "tokens of enroller %s may live 1 s to %v", e.Key.ID().ShortCode(), MaxTokenLifetime)
		}
		if err := validTags(e.Tags); err != nil {
			return err
		}
		if err := seen.add("an enroller", e.Key.ID()); err != nil {
			return err
		}
	}
	return nil
}

// validRevoked lets a revoked key keep its entry, which names the person in the
// log; revocation wins. Only an owner may not stay: owners are counted.
func (r Roster) validRevoked(keySet) error {
	if err := atMost("revoked keys", len(r.Revoked), MaxRevoked); err != nil {
		return err
	}
	once := make(keySet, len(r.Revoked))
	for _, id := range r.Revoked {
		if err := once.add("the revoked", id); err != nil {
			return err
		}
	}
	for _, o := range r.Owners {
		if _, revoked := once[o.ID()]; revoked {
			return refusal.New(refusal.KeyRevoked, "owner %s is revoked and still an owner", o.ID().ShortCode())
		}
	}
	return nil
}

func validAddress(a Address) error {
	host, ok := strings.CutPrefix(a.URL, "https://")
	if !ok || host == "" || len(host) > MaxText || !only(host, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"+lower+".:[]-_") {
		return refusal.New(refusal.BadName, "address of a server: want https://host or https://host:port")
	}
	if a.Pin.IsZero() || a.Access.IsZero() {
		return refusal.New(refusal.BadStatement, "a server without a pinned key")
	}
	return nil
}

// validTags keeps the order that was written and refuses a tag listed twice.
func validTags(tags []string) error {
	if err := atMost("tags", len(tags), MaxTags); err != nil {
		return err
	}
	seen := make(map[string]bool, len(tags))
	for _, t := range tags {
		if !policy.ValidTag(t) || seen[t] {
			return refusal.New(refusal.BadName, "tag: want 1 to %d of a-z, 0-9 and . _ = : -, each once", MaxName)
		}
		seen[t] = true
	}
	return nil
}

const lower = "abcdefghijklmnopqrstuvwxyz0123456789"

// validPerson is narrower than an e-mail address: with capitals one person
// could be written as two and approve alone what needs two people (attack E15).
func validPerson(s string) bool {
	return s != "" && len(s) <= MaxText && only(s, lower+"._@+-")
}

// ValidEmail reports whether s is one plain address, of at most MaxText bytes, as an
// operator's entry has it.
func ValidEmail(s string) bool {
	local, domain, _ := strings.Cut(s, "@")
	return local != "" && domain != "" && !strings.Contains(domain, "@") && len(s) <= MaxText &&
		plain(s) && !strings.ContainsAny(s, " \"'`*?<>()[]{},;|\\&")
}

// plain reports visible ASCII and spaces: nothing that moves a terminal's cursor
// or reorders what is read (attack J1).
func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func only(s, set string) bool {
	for i := range len(s) {
		if strings.IndexByte(set, s[i]) < 0 {
			return false
		}
	}
	return true
}

func atMost(what string, n, limit int) error {
	if n > limit {
		return refusal.New(refusal.TooMany, "%d %s; at most %d", n, what, limit)
	}
	return nil
}

// within reports from <= t < until; until 0 is for ever.
func within(t, from, until wire.Millis) bool { return t >= from && (until == 0 || t < until) }
