// Package verify reads an export and says what in it does not hold, knowing nothing
// but the team's fingerprint.
//
//	verify.go   reads lines, and has signatures verified in parallel
//	head.go     the lines that say whose log it is and who may sign
//	lack.go     what is missing or broken there, and what cannot be judged for it
//	body.go     the lines behind them, in order; checkpoints, and the end
//	entry.go    one entry: its signer, its chain, its time
//	order.go    numbers that count up: of lines, and of each signer's entries
//	fork.go     machines that signed two chains
//	session.go  what agents say of their sessions
//	cosigner.go who besides the server has seen a checkpoint
//	report.go   what comes out
//
// Source: protocol 5.4; attacks N.
package verify

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"io"
	"runtime"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/export"
	"github.com/tucdesk/tucdesk/internal/audit/finding"
	"github.com/tucdesk/tucdesk/internal/audit/lines"
	"github.com/tucdesk/tucdesk/internal/audit/signers"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// What is looked at in parallel ends with whichever comes first. Our choice: honest
// lines have some 1.5 KB, and all of a batch are in memory, decoded.
const (
	verifyBatch      = 256     // lines
	verifyBatchBytes = 8 << 20 // of lines, exceeded by one at most
)

// Export reads an export and checks everything that protocol 5.4 names and the
// export has data for, knowing only the team's fingerprint. known are notes of
// checkpoints that the reader remembers from elsewhere (witness.Witness.Checkpoint):
// another log than those is found, and one that ends before them (Report.Verdict).
// now bounds times.
//
// What does not hold is in the report. The error is for what cannot be verified
// at all: ErrNotExport, ErrUnproved, or reading failed. Memory is, besides
// the rosters, 16 bytes per entry (40 while the list of them grows), at most 48 per
// session that was accepted and has no end, and some hundred per agent.
func Export(r io.Reader, fingerprint key.Hash, now time.Time, known ...string) (Report, error) {
	v := &verifier{
		now: now, numbers: countFrom(0), chains: map[key.ID]*chain{}, reached: map[key.ID]bool{}, told: map[key.ID]told{}, seed: maphash.MakeSeed(), sessions: map[uint64]uint64{},
		lacks: lacks{agents: map[key.ID]*lack{}, targets: map[key.ID]bool{}},
	}
	v.report.Fingerprint = fingerprint
	err := v.read(bufio.NewReaderSize(r, 256<<10), known)
	return v.report, err
}

// verifier is one run of Export. Its head is filled by the first lines of the
// export and only read afterwards, which lets workers use it without a lock.
type verifier struct {
	now    time.Time
	report Report
	lacks  lacks

	// The head.
	signers *signers.Set
	history *roster.History

	// The body.
	numbers      order             // of the lines
	chains       map[key.ID]*chain // by signer
	reached      map[key.ID]bool   // agents whose claim's entry is here
	told         map[key.ID]told   // what servers say of agents
	forks        []ownFork         // that are listed
	tree         tree.Frontier
	covered      int64 // entries under a checkpoint that holds
	promised     int64 // entries of the largest checkpoint in the export, which may hold or not
	mismatch     bool  // the root was wrong once; later ones say nothing new
	short        int64 // by how many entries the last checkpoint had more than stood before it; the same again says nothing new
	known        []checkpoint.Checkpoint
	ids          idSet
	seed         maphash.Seed       // of sessions
	sessions     map[uint64]uint64  // open ones, by agent and id, with the request; all hashed
	approvals    []statement.Signed // before the next entry
	serverTime   wire.Millis        // of the last entry of a server
	aheadTime    wire.Millis        // largest time of an agent's entry since then
	aheadEntry   int64
	ended        bool
	claimedTotal int64
}

func (v *verifier) found(entry int64, code finding.Code, format string, args ...any) {
	v.foundRange(entry, entry, code, format, args...)
}

func (v *verifier) foundRange(first, last int64, code finding.Code, format string, args ...any) {
	v.add(finding.Finding{Entry: first, Last: last, Code: code, Detail: fmt.Sprintf(format, args...)})
}

// add lists a finding if there is room, which foundNext says before.
func (v *verifier) add(f finding.Finding) {
	if v.foundNext() == 0 {
		v.report.More++
		return
	}
	v.report.Findings = append(v.report.Findings, f)
}

// foundNext is 1 and the index of the next finding, 0 if it will not be listed.
func (v *verifier) foundNext() int {
	if len(v.report.Findings) >= MaxFindings {
		return 0
	}
	return len(v.report.Findings) + 1
}

// item is a line of the body and what a worker made of it.
type item struct {
	raw   []byte
	line  export.Line
	bad   bool
	entry entry.Entry
	kid   key.ID
	said  key.ID   // who is said to have signed the entry, who may be nobody
	hash  key.Hash // of the entry's statement
	leaf  key.Hash
	err   error
}

func (v *verifier) read(r *bufio.Reader, known []string) error {
	first, err := v.head(r)
	if err != nil {
		return err
	}
	if err := v.remember(known); err != nil {
		return err
	}
	batch, size := make([]item, 0, verifyBatch), 0
	if first != nil {
		batch, size = append(batch, *first), len(first.raw)
	}
	for {
		raw, whole, err := lines.Next(r, export.MaxBodyLine)
		if err != nil {
			return fmt.Errorf("reading the export: %v", err)
		}
		if whole || len(raw) > 0 {
			batch, size = append(batch, item{raw: raw}), size+len(raw)
		}
		if len(batch) == verifyBatch || size >= verifyBatchBytes || !whole {
			v.process(batch)
			clear(batch) // a shorter batch must not keep what this one had
			batch, size = batch[:0], 0
		}
		if !whole {
			v.finish()
			return nil
		}
	}
}

// decode reads one line strictly. The line's wrapping is not signed, so
// what it says is only ever compared with what is.
func (it *item) decode() {
	dec := json.NewDecoder(bytes.NewReader(it.raw))
	dec.DisallowUnknownFields()
	if dec.Decode(&it.line) != nil || dec.InputOffset() != int64(len(it.raw)) {
		it.line, it.bad = export.Line{}, true
	}
	it.raw = nil
}

// process decodes lines and verifies signatures in parallel and then everything that depends on
// order, in order.
func (v *verifier) process(batch []item) {
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(batch); i += workers {
				it := &batch[i]
				it.decode()
				if it.line.Entry != nil {
					it.leaf, it.hash = tree.Leaf(it.line.Entry), it.line.Entry.Hash()
					it.entry, it.kid, it.err = statement.Open[entry.Entry](it.line.Entry, func(kid key.ID) (statement.Verifier, error) {
						it.said = kid
						return v.signers.Find(kid)
					})
				}
			}
		})
	}
	wg.Wait()
	for i := range batch {
		v.body(&batch[i])
	}
}
