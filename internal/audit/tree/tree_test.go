package tree

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// memory is a tree of n entries with its stored hashes.
type memory struct {
	entries [][]byte
	hashes  []key.Hash
	asked   int // hashes that were read
}

func (m *memory) AuditHashes(indexes []int64) ([]key.Hash, error) {
	list := make([]key.Hash, len(indexes))
	for n, i := range indexes {
		if i < 0 || i >= int64(len(m.hashes)) {
			return nil, errors.New("no such hash")
		}
		list[n] = m.hashes[i]
	}
	m.asked += len(indexes)
	return list, nil
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t testing.TB, err error, code refusal.Code) {
	t.Helper()
	if code == "" && err != nil || refusal.Of(err) != code {
		t.Errorf("got %v, want code %q", err, code)
	}
}

func grown(t testing.TB, n int) *memory {
	t.Helper()
	m := &memory{}
	for i := range n {
		e := fmt.Appendf(nil, "entry %d", i)
		first, list, err := Grow(m, int64(i), e)
		check(t, err)
		if first != int64(len(m.hashes)) {
			t.Fatalf("hashes of entry %d begin at %d, not %d", i, first, len(m.hashes))
		}
		m.entries, m.hashes = append(m.entries, e), append(m.hashes, list...)
	}
	return m
}

func head(t testing.TB, m *memory, size int) Head {
	t.Helper()
	h, err := HeadOf(m, int64(size))
	check(t, err)
	return h
}

func TestFrontierHasTheTreesRoots(t *testing.T) {
	var f Frontier
	if f.Root() != sha256.Sum256(nil) {
		t.Error("root of nothing")
	}
	m := grown(t, 70)
	for i, e := range m.entries {
		f.Add(Leaf(e))
		if f.Root() != head(t, m, i+1).Root || f.Size() != int64(i+1) {
			t.Fatalf("root of %d entries", i+1)
		}
	}
}

func TestProofsOfEveryEntryAndSize(t *testing.T) {
	m := grown(t, 23)
	newest := head(t, m, 23)
	for i, e := range m.entries {
		proofs, err := ProveInclusion(m, 23, int64(i))
		check(t, err)
		proof := proofs[0]
		wantCode(t, CheckInclusion(newest, int64(i), e, proof), "")
		wantCode(t, CheckInclusion(newest, int64(i), e[1:], proof), refusal.AuditFork)
		wantCode(t, CheckInclusion(newest, int64(i)+1, e, proof), refusal.AuditFork)
		wantCode(t, CheckInclusion(newest, -1, e, proof), refusal.AuditFork)
		wantCode(t, CheckInclusion(newest, int64(i), e, append(proof, key.Hash{})), refusal.AuditFork)
		for j := range proof {
			proof[j][0] ^= 1
			wantCode(t, CheckInclusion(newest, int64(i), e, proof), refusal.AuditFork)
			proof[j][0] ^= 1
		}
	}
	for size := 1; size <= 23; size++ {
		older := head(t, m, size)
		proof, err := ProveConsistency(m, int64(size), 23)
		check(t, err)
		wantCode(t, CheckConsistency(older, newest, proof), "")
		if older != newest {
			wantCode(t, CheckConsistency(newest, older, proof), refusal.AuditFork)
			wantCode(t, CheckConsistency(older, newest, append(proof, key.Hash{})), refusal.AuditFork)
		}
		older.Root[0] ^= 1
		wantCode(t, CheckConsistency(older, newest, proof), refusal.AuditFork)
	}
}

// N11: sizes and places that no log has.
func TestN11ProofsOfWhatIsNotThere(t *testing.T) {
	m := grown(t, 3)
	for _, c := range [][2]int64{{-1, 3}, {3, 3}, {0, 0}, {0, MaxSize + 1}, {1 << 62, 1<<63 - 1}} {
		_, err := ProveInclusion(m, c[1], c[0])
		wantCode(t, err, refusal.NotFound)
	}
	if _, err := ProveInclusion(m, 1<<40, 0); err == nil {
		t.Error("proof in a log that is shorter")
	}
	for _, c := range [][2]int64{{0, 3}, {-1, 3}, {3, 2}, {1, 1<<63 - 1}} {
		_, err := ProveConsistency(m, c[0], c[1])
		wantCode(t, err, refusal.AuditFork)
	}
}

// On a database each hash is a question; proofs of neighbours share most of theirs.
func TestProofsOfABatchAskOnceForEachHash(t *testing.T) {
	m := grown(t, 1000)
	indexes := make([]int64, 16)
	for i := range indexes {
		indexes[i] = int64(900 + i)
	}
	m.asked = 0
	_, err := ProveInclusion(m, 1000, indexes...)
	check(t, err)
	if m.asked > 60 {
		t.Errorf("%d hashes for 16 proofs", m.asked)
	}
}

// FuzzProofs throws any proof at the checks: they answer, they do not panic (N11).
func FuzzProofs(f *testing.F) {
	f.Add(int64(0), int64(1), []byte{})
	f.Add(int64(1), int64(1<<62), bytes.Repeat([]byte{1}, 64))
	f.Add(int64(-1), int64(-1<<63), bytes.Repeat([]byte{1}, 4200))
	f.Add(int64(5), int64(9), bytes.Repeat([]byte{7}, 32*4))
	f.Fuzz(func(t *testing.T, a, b int64, raw []byte) {
		var proof []key.Hash
		for ; len(raw) >= 32; raw = raw[32:] {
			proof = append(proof, key.Hash(raw[:32]))
		}
		if CheckConsistency(Head{Size: a}, Head{Size: b, Root: key.Hash{1}}, proof) == nil {
			t.Error("a made-up proof holds")
		}
		if CheckInclusion(Head{Size: b, Root: key.Hash{1}}, a, []byte("x"), proof) == nil {
			t.Error("a made-up inclusion holds")
		}
	})
}

// The numbering is the library's, on which the database's rows stand.
func TestStoredHashesAreNumberedAsInTheLibrary(t *testing.T) {
	m := grown(t, 40)
	want := make([]tlog.Hash, 0, len(m.hashes))
	for i, e := range m.entries {
		list, err := tlog.StoredHashes(int64(i), e, tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
			var out []tlog.Hash
			for _, n := range indexes {
				out = append(out, want[n])
			}
			return out, nil
		}))
		check(t, err)
		want = append(want, list...)
	}
	for i, h := range m.hashes {
		if h != key.Hash(want[i]) {
			t.Fatalf("hash %d", i)
		}
	}
}
