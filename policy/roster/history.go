package roster

import (
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// PublishGrace is how long after a version without it was signed a key that was
// merely retired may still have been in use: owners sign, collect cosignatures
// and publish later, and servers learn of it last. Revoked keys get none. Our
// choice.
const PublishGrace = 24 * time.Hour

// History answers for a verified chain who was what at an earlier time, which is
// what reading an old audit log takes (protocol 5.4): keys that were retired since
// stay good for what they signed then.
type History struct {
	versions  []versionAt
	audit     map[key.ID][]span[key.Public[key.Audit]]
	operators map[key.ID][]span[Operator]
	revoked   map[key.ID][]span[struct{}]
}

type versionAt struct {
	hash key.Hash
	from wire.Millis
}

// span is a value that held from when one version was issued until a version
// without it was; until 0 is still.
type span[V any] struct {
	value       V
	from, until wire.Millis
}

// History reads s's whole chain, decoding every version once.
func (s *State) History() (*History, error) {
	h := &History{
		audit:     make(map[key.ID][]span[key.Public[key.Audit]]),
		operators: make(map[key.ID][]span[Operator]),
		revoked:   make(map[key.ID][]span[struct{}]),
	}
	for _, u := range s.chain {
		r, err := unverified[Roster](u.Statement)
		if err != nil {
			return nil, err
		}
		h.add(r, u.Statement.Hash())
	}
	return h, nil
}

func (h *History) add(r Roster, hash key.Hash) {
	h.versions = append(h.versions, versionAt{hash, r.IssuedAt})
	audit := make(map[key.ID]key.Public[key.Audit], len(r.Servers))
	for _, s := range r.Servers {
		audit[s.Keys.Audit.ID()] = s.Keys.Audit
	}
	operators := make(map[key.ID]Operator, len(r.Operators))
	for _, o := range r.Operators {
		operators[o.Key.ID()] = o
	}
	revoked := make(map[key.ID]struct{}, len(r.Revoked))
	for _, id := range r.Revoked {
		revoked[id] = struct{}{}
	}
	record(h.audit, audit, r.IssuedAt)
	record(h.operators, operators, r.IssuedAt)
	record(h.revoked, revoked, r.IssuedAt)
}

// record ends the spans whose value is gone or changed and begins new ones.
func record[V comparable](spans map[key.ID][]span[V], now map[key.ID]V, at wire.Millis) {
	for id, list := range spans {
		last := &list[len(list)-1]
		if v, ok := now[id]; last.until == 0 && (!ok || v != last.value) {
			last.until = at
		}
	}
	for id, v := range now {
		list := spans[id]
		if len(list) == 0 || list[len(list)-1].until != 0 {
			spans[id] = append(list, span[V]{value: v, from: at})
		}
	}
}

// lookup prefers the span that really covers t to one that does by its grace.
func lookup[V any](list []span[V], t wire.Millis) (v V, ok bool) {
	grace := wire.Millis(PublishGrace.Milliseconds())
	for i := len(list) - 1; i >= 0; i-- {
		s := list[i]
		if within(t, s.from, s.until) {
			return s.value, true
		}
		if !ok && s.until != 0 && within(t, s.until, s.until+grace) {
			v, ok = s.value, true
		}
	}
	return v, ok
}

// Revoked reports key_revoked when the key of any role was revoked at that time
// (attack N4).
func (h *History) Revoked(id key.ID, at time.Time) error {
	for _, s := range h.revoked[id] {
		if within(wire.At(at), s.from, s.until) {
			return refusal.New(refusal.KeyRevoked, "key %s was revoked at %s", id.ShortCode(), s.from.Time().Format(time.RFC3339))
		}
	}
	return nil
}

// Audit returns a server's audit key if it was in force at that time, retired
// less than PublishGrace ago, and not revoked. Otherwise key_revoked or
// unknown_key.
func (h *History) Audit(id key.ID, at time.Time) (key.Public[key.Audit], error) {
	if err := h.Revoked(id, at); err != nil {
		return key.Public[key.Audit]{}, err
	}
	k, ok := lookup(h.audit[id], wire.At(at))
	if !ok {
		return k, refusal.New(refusal.UnknownKey, "key %s was no server's audit key at %s", id.ShortCode(), at.UTC().Format(time.RFC3339))
	}
	return k, nil
}

// Operator returns an operator's entry as it was at that time, by the rules of
// Audit and of State.Operator.
func (h *History) Operator(id key.ID, at time.Time) (Operator, error) {
	if err := h.Revoked(id, at); err != nil {
		return Operator{}, err
	}
	o, ok := lookup(h.operators[id], wire.At(at))
	if !ok {
		return Operator{}, refusal.New(refusal.UnknownKey, "key %s was no operator's at %s", id.ShortCode(), at.UTC().Format(time.RFC3339))
	}
	if !within(wire.At(at), 0, o.NotAfter) {
		return Operator{}, refusal.New(refusal.Expired, "key %s had ended at %s", id.ShortCode(), at.UTC().Format(time.RFC3339))
	}
	return o, nil
}

// Hash returns the hash of one version, zero when there was none.
func (h *History) Hash(version uint64) key.Hash {
	if version == 0 || version > uint64(len(h.versions)) {
		return key.Hash{}
	}
	return h.versions[version-1].hash
}

// Version returns the newest version that was signed by that time, 0 before the
// first.
func (h *History) Version(at time.Time) (version uint64) {
	for i, v := range h.versions {
		if v.from <= wire.At(at) {
			version = uint64(i + 1)
		}
	}
	return version
}
