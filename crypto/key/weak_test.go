package key

import (
	"crypto/rand"
	"math/big"
	"slices"
	"testing"

	"filippo.io/edwards25519"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// torsion computes the eight points whose order divides the cofactor: l·P of a
// random P is one of them, and with luck one of order eight.
func torsion(t *testing.T) (points [][32]byte) {
	t.Helper()
	one, err := edwards25519.NewScalar().SetCanonicalBytes(append([]byte{1}, make([]byte, 31)...))
	if err != nil {
		t.Fatal(err)
	}
	minusOne := edwards25519.NewScalar().Negate(one)
	for len(points) != 8 {
		var raw [32]byte
		_, _ = rand.Read(raw[:])
		p, err := new(edwards25519.Point).SetBytes(raw[:])
		if err != nil {
			continue
		}
		small := new(edwards25519.Point).ScalarMult(minusOne, p)
		small.Add(small, p)
		points = points[:0]
		for q := edwards25519.NewIdentityPoint(); ; q.Add(q, small) {
			enc := [32]byte(q.Bytes())
			if slices.Contains(points, enc) {
				break
			}
			points = append(points, enc)
		}
	}
	return points
}

func TestB14SmallOrderTableIsComplete(t *testing.T) {
	var ys [][32]byte
	for _, p := range torsion(t) {
		p[31] &= 0x7f
		if !slices.Contains(ys, p) {
			ys = append(ys, p)
		}
	}
	if len(ys) != len(smallOrderY) {
		t.Errorf("%d y coordinates computed, %d in the table", len(ys), len(smallOrderY))
	}
	for _, y := range ys {
		if !slices.Contains(smallOrderY[:], y) {
			t.Errorf("y %x is missing in the table", y)
		}
	}
}

func TestB14WeakKeysAreRefused(t *testing.T) {
	try := func(name string, raw []byte) {
		t.Helper()
		if p, err := PublicFromBytes[Agent](raw); refusal.Of(err) != refusal.WeakKey || !p.IsZero() {
			t.Errorf("%s %x: %v, want weak_key and no key", name, raw, err)
		}
	}
	for _, p := range torsion(t) {
		try("small order", p[:])
		p[31] ^= 0x80
		try("small order, other sign", p[:])
	}
	prime := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	for i := range int64(19) {
		raw := new(big.Int).Add(prime, big.NewInt(i)).FillBytes(make([]byte, 32))
		slices.Reverse(raw)
		try("not canonical", raw)
		raw[31] |= 0x80
		try("not canonical, other sign", raw)
	}
	for _, n := range []int{0, 31, 33, 64} {
		try("wrong length", make([]byte, n))
	}
}

func TestHonestKeysAreNeverWeak(t *testing.T) {
	for range 200 {
		k, err := Generate[Operator]()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := PublicFromBytes[Operator](k.Public().Bytes()); err != nil {
			t.Fatal(err)
		}
	}
}
