package spool

import (
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// server is the log as a server has it, with other entries in between.
type server struct {
	t       *testing.T
	hashes  []key.Hash
	entries int64
	at      map[string]int64
}

func (l *server) AuditHashes(indexes []int64) (list []key.Hash, err error) {
	for _, i := range indexes {
		list = append(list, l.hashes[i])
	}
	return list, nil
}

func (l *server) add(entry []byte) {
	l.t.Helper()
	_, hashes, err := tree.Grow(l, l.entries, entry)
	check(l.t, err)
	l.at[string(entry)] = l.entries
	l.hashes, l.entries = append(l.hashes, hashes...), l.entries+1
}

// take stores entries and proves them.
func (l *server) take(list []statement.Signed) (tree.Head, []wire.Inclusion) {
	l.t.Helper()
	for _, s := range list {
		l.add([]byte("something else"))
		l.add(s)
	}
	return l.prove(list)
}

func (l *server) prove(list []statement.Signed) (tree.Head, []wire.Inclusion) {
	l.t.Helper()
	head, err := tree.HeadOf(l, l.entries)
	check(l.t, err)
	var proofs []wire.Inclusion
	for _, s := range list {
		paths, err := tree.ProveInclusion(l, l.entries, l.at[string(s)])
		check(l.t, err)
		proofs = append(proofs, wire.Inclusion{Index: l.at[string(s)], Path: paths[0]})
	}
	return head, proofs
}

func wantKept(t *testing.T, s *Spool, n int) {
	t.Helper()
	if list := pending(t, s, 99); len(list) != n {
		t.Errorf("%d entries are kept, not %d", len(list), n)
	}
}

func TestEntriesStayUntilTheLogProvesThem(t *testing.T) {
	s, dir := newSpool(t, MaxBytes)
	l := &server{t: t, at: map[string]int64{}}
	say(t, s, 6)
	all := pending(t, s, 99)
	check(t, s.Claimed(6)) // the server says so
	wantKept(t, s, 6)
	head, proofs := l.take(all[:3])
	if n, err := s.Proved(head, 1, proofs); err != nil || n != 3 {
		t.Fatalf("%d, %v", n, err)
	}
	wantKept(t, s, 3)
	if n, err := s.Proved(head, 1, proofs); err != nil || n != 0 { // once more
		t.Errorf("%d, %v", n, err)
	}
	head, proofs = l.take(all[3:])
	if n, err := s.Proved(head, 5, proofs[1:]); err != nil || n != 0 { // the fourth is not proven
		t.Errorf("%d, %v", n, err)
	}
	wantKept(t, s, 3)
	head, proofs = l.prove(all[1:5]) // two of them are old news
	if n, err := s.Proved(head, 2, proofs); err != nil || n != 2 {
		t.Errorf("%d, %v", n, err)
	}
	wantKept(t, s, 1)
	s = reopen(t, s, dir, MaxBytes) // what is not rewritten yet is sent and proven again
	if list := pending(t, s, 99); len(list) != 6 {
		t.Errorf("%d entries", len(list))
	}
}

// A lie about any entry keeps all of them.
func TestLyingProofsLetNothingGo(t *testing.T) {
	s, _ := newSpool(t, MaxBytes)
	l := &server{t: t, at: map[string]int64{}}
	say(t, s, 3)
	all := pending(t, s, 99)
	for name, lie := range map[string]func(head *tree.Head, first *uint64, p *[]wire.Inclusion){
		"other place":       func(_ *tree.Head, _ *uint64, p *[]wire.Inclusion) { (*p)[2].Index-- },
		"place before zero": func(_ *tree.Head, _ *uint64, p *[]wire.Inclusion) { (*p)[0].Index = -1 },
		"behind the end":    func(h *tree.Head, _ *uint64, p *[]wire.Inclusion) { (*p)[0].Index = h.Size },
		"other path":        func(_ *tree.Head, _ *uint64, p *[]wire.Inclusion) { (*p)[1].Path[0][5] ^= 1 },
		"no path":           func(_ *tree.Head, _ *uint64, p *[]wire.Inclusion) { (*p)[1].Path = nil },
		"long path":         func(_ *tree.Head, _ *uint64, p *[]wire.Inclusion) { (*p)[1].Path = make([]key.Hash, 1000) },
		"another's proof":   func(_ *tree.Head, _ *uint64, p *[]wire.Inclusion) { (*p)[0] = (*p)[1] },
		"other log":         func(h *tree.Head, _ *uint64, _ *[]wire.Inclusion) { h.Root[0] ^= 1 },
		"huge log":          func(h *tree.Head, _ *uint64, _ *[]wire.Inclusion) { h.Size = 1<<63 - 1 },
		"entry zero":        func(_ *tree.Head, first *uint64, _ *[]wire.Inclusion) { *first = 0 },
		"entries to come":   func(_ *tree.Head, first *uint64, _ *[]wire.Inclusion) { *first = 2 },
		"far to come":       func(_ *tree.Head, first *uint64, _ *[]wire.Inclusion) { *first = 1<<64 - 1 },
		"too many":          func(_ *tree.Head, _ *uint64, p *[]wire.Inclusion) { *p = make([]wire.Inclusion, wire.MaxAuditBatch+1) },
	} {
		t.Run(name, func(t *testing.T) {
			l.t = t
			head, proofs := l.take(all)
			first := uint64(1)
			lie(&head, &first, &proofs)
			n, err := s.Proved(head, first, proofs)
			wantCode(t, err, refusal.AuditFork)
			if n != 0 {
				t.Errorf("%d entries went", n)
			}
			wantKept(t, s, 3)
		})
	}
}
