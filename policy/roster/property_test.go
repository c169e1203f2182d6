package roster_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// model is a team whose owners change at random; it knows who may sign.
type model struct {
	t     *rapid.T
	state *roster.State
	n     int // for fresh keys
	keys  map[key.ID]key.Private[key.Owner]
}

func newModel(t *rapid.T) *model {
	m := found(t, 0, rapid.IntRange(1, 4).Draw(t, "owners"), 1)
	o := &model{t: t, state: m.state, n: 100, keys: make(map[key.ID]key.Private[key.Owner])}
	for _, k := range m.owners {
		o.keys[k.ID()] = k
	}
	return o
}

func (o *model) freshOwner() key.Public[key.Owner] {
	o.n++
	k := private[key.Owner](o.t, o.n)
	o.keys[k.ID()] = k
	return k.Public()
}

// edit changes a roster in one of the ways in which teams change.
func (o *model) edit(r *roster.Roster) {
	r.Renew(r.IssuedAt.Time().Add(time.Duration(rapid.IntRange(0, 1e6).Draw(o.t, "later"))*time.Millisecond), time.Hour)
	switch rapid.IntRange(0, 6).Draw(o.t, "edit") {
	case 0:
		o.n++
		r.Operators = append(r.Operators, operator(o.t, o.n, fmt.Sprintf("p%d", o.n), policy.Approver))
	case 1:
		r.Operators = r.Operators[:max(len(r.Operators)-1, 0)]
	case 2:
		o.n++
		r.Revoke(public[key.Agent](o.t, o.n).ID())
	case 3:
		r.Owners = append(r.Owners, o.freshOwner())
	case 4:
		r.Owners[0] = o.freshOwner()
	case 5:
		r.Threshold = rapid.IntRange(1, len(r.Owners)).Draw(o.t, "threshold")
	case 6:
		if len(r.Owners) > r.Threshold {
			r.Owners = r.Owners[1:]
		}
	}
}

// signed draws just enough owners of both sets, in any order.
func (o *model) signed(r roster.Roster) wire.RosterUpdate {
	before := o.state.Roster()
	by := rapid.Permutation(before.Owners).Draw(o.t, "before")[:before.Threshold]
	if !sameOwners(before, r) {
		have := 0
		for _, k := range by {
			if slices.Contains(r.Owners, k) {
				have++
			}
		}
		for _, k := range rapid.Permutation(r.Owners).Draw(o.t, "after") {
			if have < r.Threshold && !slices.Contains(by, k) {
				by, have = append(slices.Clip(by), k), have+1
			}
		}
	}
	var keys []key.Private[key.Owner]
	for _, k := range by {
		keys = append(keys, o.keys[k.ID()])
	}
	return signWith(o.t, r, keys...)
}

func sameOwners(a, b roster.Roster) bool {
	return a.Threshold == b.Threshold && slices.Equal(a.Owners, b.Owners)
}

func TestAnyValidSequenceAppliesAndNoMutationDoes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		o := newModel(t)
		for range rapid.IntRange(1, 3).Draw(t, "versions") {
			r := roster.Next(o.state, o.edit)
			u := o.signed(r)
			o.refusesMutation(r, u)
			next, err := o.state.Apply(u, farAhead)
			if err != nil {
				t.Fatalf("version %d: %v", r.Version, err)
			}
			o.state = next
		}
		again, err := roster.Load(o.state.Encode(), o.state.Fingerprint())
		if err != nil || again.Hash() != o.state.Hash() {
			t.Fatalf("reading the chain again: %v", err)
		}
	})
}

func (o *model) refusesMutation(r roster.Roster, u wire.RosterUpdate) {
	before := o.state.Encode()
	what, bad := o.mutate(r, u)
	next, err := o.state.Apply(bad, farAhead)
	if err == nil || next != nil || refusal.Of(err) == "" {
		o.t.Fatalf("%s: got %v, want a refusal", what, err)
	}
	if !bytes.Equal(before, o.state.Encode()) {
		o.t.Fatalf("%s: the state changed", what)
	}
}

func (o *model) mutate(r roster.Roster, u wire.RosterUpdate) (string, wire.RosterUpdate) {
	resign := func() wire.RosterUpdate { return o.signed(r) }
	switch rapid.IntRange(0, 8).Draw(o.t, "mutation") {
	case 0:
		r.Version += uint64(rapid.IntRange(1, 3).Draw(o.t, "ahead"))
		return "later version", resign()
	case 1:
		r.Version -= uint64(rapid.IntRange(1, int(r.Version)-1).Draw(o.t, "behind"))
		return "earlier version", resign()
	case 2:
		r.Previous[rapid.IntRange(0, 31).Draw(o.t, "byte")] ^= 1
		return "other link", resign()
	case 3:
		r.Team[rapid.IntRange(0, 15).Draw(o.t, "byte")] ^= 1
		return "other team", resign()
	case 4:
		r.IssuedAt = wire.At(o.state.IssuedAt()) - 1
		r.ExpiresAt = r.IssuedAt + 1
		return "issued before", resign()
	case 5:
		i := rapid.IntRange(0, len(u.Statement)-1).Draw(o.t, "byte")
		u.Statement = slices.Clone(u.Statement)
		u.Statement[i] ^= 1 << rapid.IntRange(0, 7).Draw(o.t, "bit")
		return fmt.Sprintf("byte %d", i), u
	case 6:
		if len(u.Cosignatures) > 0 {
			u.Cosignatures = u.Cosignatures[1:] // signed draws no more than are needed
			return "a signature fewer", u
		}
	case 7:
		if len(u.Cosignatures) > 1 {
			u.Cosignatures = append(slices.Clone(u.Cosignatures[1:]), u.Cosignatures[len(u.Cosignatures)-1])
			return "one signature for another", u
		}
	}
	u.Statement = forgeSigned(o.t, private[key.Owner](o.t, 9), r)
	if len(u.Cosignatures) > 0 {
		u.Cosignatures = []statement.Cosignature{}
	}
	return "a stranger's", u
}
