package roster_test

import (
	"bytes"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// grown is a team with a chain of four versions that has every kind of change.
func grown(t tb) *team {
	m := found(t, 0, 3, 2)
	m.grow(func(r *roster.Roster) {
		renew(r)
		r.Operators = append(r.Operators, operator(t, 20, "erin", policy.Operator))
	})
	m.grow(func(r *roster.Roster) { renew(r); r.Revoke(public[key.Operator](t, bob).ID()) })
	fresh := private[key.Owner](t, 30)
	r := roster.Next(m.state, func(r *roster.Roster) { renew(r); r.Owners[2] = fresh.Public() })
	m.state = mustApply(t, m.state, signWith(t, r, m.owners[0], fresh, m.owners[1]))
	return m
}

func TestChainFileRoundTrip(t *testing.T) {
	m := grown(t)
	file := m.state.Encode()
	st, err := roster.Load(file, m.fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(st.Encode(), file) || st.Hash() != m.state.Hash() || st.Version() != 4 {
		t.Errorf("read back as version %d, %v", st.Version(), st.Hash())
	}
	mustApply(t, st, m.next(st, renew))
}

func TestChainFileOfAnotherTeam(t *testing.T) {
	m, other := grown(t), found(t, 10, 1, 1)
	_, err := roster.Load(m.state.Encode(), other.fingerprint)
	wantCode(t, "another fingerprint", err, refusal.BadChain)
	_, err = roster.Load(m.state.Encode(), key.Hash{})
	wantCode(t, "no fingerprint", err, refusal.BadChain)
}

// What is left of a file cut short is either refused or, at the end of a line, an
// older chain of the same team, which brings no right that was not signed.
func TestChainFileCutShort(t *testing.T) {
	t.Parallel()
	m := bare(t, 1, 1)
	m.grow(renew)
	file := m.state.Encode()
	whole := 0
	for n := range len(file) {
		if n%5 != 0 && file[n] != '\n' && file[max(0, n-1)] != '\n' {
			continue // all line ends, and every fifth place between
		}
		st, err := roster.Load(file[:n], m.fingerprint)
		if err != nil {
			continue
		}
		whole++
		if file[n-1] != '\n' || !bytes.Equal(st.Encode(), file[:n]) {
			t.Fatalf("cut at %d of %d: read as version %d", n, len(file), st.Version())
		}
	}
	if whole != 1 {
		t.Errorf("%d prefixes were taken, want the one after version 1", whole)
	}
}

func TestChainFileWithAByteFlipped(t *testing.T) {
	t.Parallel()
	m := bare(t, 1, 1)
	second := private[key.Owner](t, 31) // the last line has a cosignature
	r := roster.Next(m.state, func(r *roster.Roster) { renew(r); r.Owners, r.Threshold = append(r.Owners, second.Public()), 2 })
	m.state = mustApply(t, m.state, signWith(t, r, m.owners[0], second))
	file := m.state.Encode()
	for i := 0; i < len(file); i += 3 { // every byte of every statement is flipped in flip_test.go
		bad := bytes.Clone(file)
		bad[i] ^= 1 << (i % 8)
		if st, err := roster.Load(bad, m.fingerprint); err == nil {
			t.Fatalf("byte %d of %d, bit %d: read as version %d", i, len(file), i%8, st.Version())
		}
	}
}

func TestChainFileLinesRearranged(t *testing.T) {
	m := grown(t)
	lines := bytes.SplitAfter(m.state.Encode(), []byte("\n"))
	for what, order := range map[string][]int{
		"version left out": {0, 1, 2, 4},
		"versions swapped": {0, 1, 3, 2, 4, 5},
		"version twice":    {0, 1, 2, 2},
		"root left out":    {0, 2, 3},
		"header left out":  {1, 2, 3},
		"no version":       {0, 1},
		"empty line":       {0, 1, 2, 6},
	} {
		var file []byte
		for _, i := range order {
			if i == 6 {
				file = append(file, '\n')
				continue
			}
			file = append(file, lines[i]...)
		}
		if _, err := roster.Load(file, m.fingerprint); refusal.Of(err) == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzLoad(f *testing.F) {
	m := grown(f)
	f.Add(m.state.Encode())
	f.Add([]byte("tucdesk-chain-v1\n{}\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		st, err := roster.Load(file, m.fingerprint)
		if err == nil && !bytes.Equal(st.Encode(), file) {
			t.Error("read, but written otherwise")
		}
	})
}
