package roster

import (
	"maps"
	"slices"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// quorum is a set of owners of whom threshold must sign.
type quorum struct {
	owners    []key.Public[key.Owner]
	threshold int
}

func (q quorum) find(id key.ID) (statement.Verifier, error) {
	for _, o := range q.owners {
		if o.ID() == id {
			return o, nil
		}
	}
	return nil, refusal.New(refusal.NotEnoughSignatures, "the signer is not one of the owners that must sign")
}

// same compares as sets: another order asks for the same people.
func (q quorum) same(p quorum) bool {
	if q.threshold != p.threshold || len(q.owners) != len(p.owners) {
		return false
	}
	for _, o := range q.owners {
		if !slices.Contains(p.owners, o) {
			return false
		}
	}
	return true
}

// mustSign returns the quorums that each have to be complete: the owners before
// r, and r's own where they differ, so that nobody is made an owner, or given a
// threshold, that cannot sign (the rule of TUF's root).
func (s *State) mustSign(r Roster) []quorum {
	before := quorum{s.roster.Owners, s.roster.Threshold}
	if r.Version == s.roster.Version {
		before = s.quorum // a second claim to the newest version is judged as the first was
	}
	after := quorum{r.Owners, r.Threshold}
	if after.same(before) {
		return []quorum{before}
	}
	return []quorum{before, after}
}

// signerOf finds id among the owners that must sign. A key that this team knows
// in another role is wrong_role (attack G13).
func (s *State) signerOf(must []quorum, id key.ID) (statement.Verifier, error) {
	for _, q := range must {
		if v, err := q.find(id); err == nil {
			return v, nil
		}
	}
	if role := s.roleOf(id); role != "" && role != "owner" {
		return nil, refusal.New(refusal.WrongRole, "a roster signed by a key of role %s", role)
	}
	return nil, refusal.New(refusal.NotEnoughSignatures, "the signer is not one of the owners that must sign")
}

// countSigners verifies every cosignature and counts distinct owners.
func (s *State) countSigners(must []quorum, first key.ID, more []statement.Cosignature, of statement.Signed) error {
	signed, err := s.whoSigned(must, first, more, of)
	if err != nil {
		return err
	}
	for _, q := range must {
		if n := q.count(signed); n < q.threshold {
			return refusal.New(refusal.NotEnoughSignatures, "%d of the %d owners needed have signed", n, q.threshold)
		}
	}
	return nil
}

// whoSigned verifies every cosignature. One that does not hold spoils the update:
// an update has no parts that may be garbage.
func (s *State) whoSigned(must []quorum, first key.ID, more []statement.Cosignature, of statement.Signed) (keySet, error) {
	if err := atMost("cosignatures", len(more), MaxCosignatures); err != nil {
		return nil, err
	}
	signed := keySet{first: {}}
	for _, c := range more {
		v, err := s.signerOf(must, c.Kid)
		if err != nil {
			return nil, err
		}
		if _, twice := signed[c.Kid]; twice {
			return nil, refusal.New(refusal.NotEnoughSignatures, "owner %s signed twice", c.Kid.ShortCode())
		}
		if err := statement.CheckCosignature(of, c, v); err != nil {
			return nil, err
		}
		signed[c.Kid] = struct{}{}
	}
	return signed, nil
}

// count counts owners, not signatures. That no owner is listed twice is
// Validate's part.
func (q quorum) count(signed keySet) (n int) {
	for _, o := range q.owners {
		if _, ok := signed[o.ID()]; ok {
			n++
		}
	}
	return n
}

// Missing returns how many signatures u still lacks to follow s, and the owners
// whose next one brings it nearer, for an owner's client to show. It fails when u
// cannot follow s whoever signs it, or when a signature that it has does not hold.
func (s *State) Missing(u wire.RosterUpdate) (short int, owners []key.ID, err error) {
	_, must, first, err := s.openFirst(u.Statement)
	if err != nil {
		return 0, nil, err
	}
	signed, err := s.whoSigned(must, first, u.Cosignatures, u.Statement)
	if err != nil {
		return 0, nil, err
	}
	short = lacking(must, signed)
	for _, q := range must {
		for _, o := range q.owners {
			if id := o.ID(); !slices.Contains(owners, id) && lacking(must, signed.with(id)) < short {
				owners = append(owners, id)
			}
		}
	}
	return short, owners, nil
}

func (s keySet) with(id key.ID) keySet {
	s = maps.Clone(s)
	s[id] = struct{}{}
	return s
}

// lacking is how many owners have to sign at least. Where the owners change there
// are two sets to complete, and whoever is in both counts for both.
func lacking(must []quorum, signed keySet) int {
	short := make([]int, len(must))
	for i, q := range must {
		short[i] = max(0, q.threshold-q.count(signed))
	}
	if len(must) == 1 {
		return short[0]
	}
	both := 0
	for _, o := range must[0].owners {
		if _, done := signed[o.ID()]; !done && slices.Contains(must[1].owners, o) {
			both++
		}
	}
	return short[0] + short[1] - min(short[0], short[1], both)
}
