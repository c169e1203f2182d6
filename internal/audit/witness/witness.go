// Package witness remembers what a server has shown of a log, so that it cannot show
// another one later.
//
// Source: protocol 5.3.
package witness

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// Witness remembers the last checkpoint of one log that this agent or operator
// saw (protocol 5.3). Once it saw two that do not fit together it keeps both as
// evidence and says audit_fork for ever, also after a restart: a person has to
// look, and removes the file. It is safe for concurrent use by one process.
type Witness struct {
	path   string
	origin string

	writing sync.Mutex // held across a change and its write: one at a time, in order

	mu    sync.Mutex // guards state; held across nothing, so whoever asks waits for no disk
	state state
}

// now returns the state in force. Who changes it holds writing.
func (w *Witness) now() state {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

// state is the file, one line of JSON.
type state struct {
	Format     string   `json:"format"`
	Origin     string   `json:"origin"`
	Checkpoint string   `json:"checkpoint"` // the newest note, "" before the first
	Evidence   []string `json:"evidence"`   // notes that contradict it
}

const (
	format = "tucdesk-witness-v1"

	// MaxEvidence is how many pieces of evidence a witness keeps; more of them prove
	// nothing more. Our choice.
	MaxEvidence = 4

	maxPiece = 3 * checkpoint.MaxNote // bytes of one: a note and the longest proof
	maxFile  = (MaxEvidence + 1) * maxPiece * 2
)

// Open opens the memory of the log origin at path. There need not be a
// file yet: the first checkpoint is believed, as the server's key is in the
// roster and nobody here knows better.
func Open(path, origin string) (*Witness, error) {
	if !checkpoint.ValidOrigin(origin) {
		return nil, fmt.Errorf("opening a witness: %q is no name of a log", origin)
	}
	w := &Witness{path: path, origin: origin, state: state{Format: format, Origin: origin, Evidence: []string{}}}
	raw, err := keyfile.ReadPrivate(path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return w, nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening a witness: %w", err)
	}
	if err := w.decode(raw); err != nil {
		return nil, fmt.Errorf("opening the witness %q: %w", path, err)
	}
	return w, nil
}

func (w *Witness) decode(raw []byte) error {
	var s state
	if json.Unmarshal(raw, &s) != nil {
		return errors.New("file is damaged")
	}
	again, err := json.Marshal(s)
	if err != nil || !bytes.Equal(append(again, '\n'), raw) || s.Format != format || len(s.Evidence) > MaxEvidence {
		return errors.New("file is damaged")
	}
	if s.Origin != w.origin {
		return refusal.New(refusal.WrongTeam, "the file is of another log")
	}
	if _, err := s.checkpoint(); err != nil {
		return errors.New("file is damaged")
	}
	w.state = s
	return nil
}

// checkpoint reads the remembered note, whose signature was verified before it
// was written.
func (s state) checkpoint() (checkpoint.Checkpoint, error) {
	if s.Checkpoint == "" {
		return checkpoint.Checkpoint{}, nil
	}
	return checkpoint.Peek(s.Checkpoint)
}

// Size returns the size of the newest checkpoint, 0 before the first, to ask a
// server for what follows.
func (w *Witness) Size() int64 {
	c, err := w.now().checkpoint()
	if err != nil {
		return 0 // decode let none of these in
	}
	return c.Size
}

// Checkpoint returns the newest note, "" before the first, for Verify.
func (w *Witness) Checkpoint() string {
	return w.now().Checkpoint
}

// Evidence returns what contradicts Checkpoint.
func (w *Witness) Evidence() []string {
	return slices.Clone(w.now().Evidence)
}

// Err returns audit_fork when this witness holds evidence. Whoever holds it
// opens and accepts no new sessions.
func (w *Witness) Err() error { return w.errOf(w.now()) }

func (w *Witness) errOf(s state) error {
	if len(s.Evidence) == 0 {
		return nil
	}
	return refusal.New(refusal.AuditFork, "the server showed a log that contradicts itself; the evidence is in %q: show it to an owner", w.path)
}

// Update takes what a server said about the newest checkpoint, under the audit
// keys that the roster has for it. The checkpoint is on the disk when Update
// returns nil. A note that nobody we know signed is bad_signature and changes
// nothing; one that is rightly signed and does not extend what was seen before
// is audit_fork.
func (w *Witness) Update(g wire.AuditGossip, keys ...key.Public[key.Audit]) error {
	w.writing.Lock()
	defer w.writing.Unlock()
	if g.Checkpoint == "" {
		return w.Err()
	}
	next, _, err := checkpoint.Open(g.Checkpoint, w.origin, keys...)
	if err != nil {
		return err
	}
	s := w.now()
	last, err := s.checkpoint()
	if err != nil {
		return err
	}
	if last.Size != 0 && tree.CheckConsistency(last.Head, next.Head, g.Consistency) != nil {
		return w.accuse(g.Checkpoint)
	}
	if err := w.Err(); err != nil || next == last {
		return err
	}
	s.Checkpoint = g.Checkpoint
	if err := w.save(s); err != nil {
		return err
	}
	w.set(s)
	return nil
}

// Accuse keeps a proof of the server's that does not hold under the newest
// checkpoint, in words, and returns audit_fork like everything from now on.
func (w *Witness) Accuse(what string) error {
	w.writing.Lock()
	defer w.writing.Unlock()
	return w.accuse(w.now().Checkpoint + "\n" + what)
}

// Cosign returns what k, a key of this witness, says of the newest checkpoint: that
// it is verified and the newest at that time. Nothing before the first one, and
// nothing by who holds evidence.
func Cosign[R checkpoint.Cosigner](w *Witness, k key.Private[R], at time.Time) (wire.Cosignature, error) {
	s := w.now()
	c, err := s.checkpoint()
	if err = errors.Join(err, w.errOf(s)); err != nil || c.Size == 0 {
		return wire.Cosignature{}, err
	}
	line, err := checkpoint.Cosign(c, k, at)
	return wire.Cosignature{Size: c.Size, Line: line}, err
}

// accuse keeps what contradicts the newest checkpoint, and holds before it is
// written: the refusal does not depend on the disk. The caller holds writing.
func (w *Witness) accuse(evidence string) error {
	s := w.now()
	evidence = strings.ToValidUTF8(evidence[:min(len(evidence), maxPiece)], "")
	if len(s.Evidence) < MaxEvidence && !slices.Contains(s.Evidence, evidence) {
		s.Evidence = append(slices.Clone(s.Evidence), evidence)
	}
	w.set(s)
	return errors.Join(w.Err(), w.save(s))
}

func (w *Witness) set(s state) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state = s
}

// save writes s. The caller holds writing.
func (w *Witness) save(s state) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("writing a witness: %v", err)
	}
	if err := keyfile.WriteAtomic(w.path, append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("writing a witness: %w", err)
	}
	return nil
}
