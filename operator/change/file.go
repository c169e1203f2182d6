package change

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
)

const (
	header = "tucdesk-pending-v1"

	// MaxFile bounds a pending file, in bytes: the largest roster and policy in
	// base64, and maxChain. Our choice.
	MaxFile = 24 << 20

	// maxChain is how many bytes of statements a file carries for owners who have
	// no login of their own. The owners of a larger chain need one. Our choice.
	maxChain = 8 << 20
)

// File is a pending change as it is handed from owner to owner. It holds no
// secret, and nothing in it is believed before Open has verified it.
type File struct {
	Root   statement.Signed    `json:"root"`   // the team's root; the pinned fingerprint is its hash
	Chain  []wire.RosterUpdate `json:"chain"`  // all versions before the change; [] when that is too much
	Update wire.RosterUpdate   `json:"update"` // the change, with the signatures so far
	Policy wire.Bytes          `json:"policy"` // the new rules; "" when they stay
}

// Parse reads a file in its one spelling; anything else is bad_statement.
func Parse(data []byte) (File, error) {
	bad := refusal.New(refusal.BadStatement, "not a complete file of a pending change")
	line, ok := bytes.CutPrefix(data, []byte(header+"\n"))
	if len(data) > MaxFile || !ok {
		return File{}, bad
	}
	var f File
	if json.Unmarshal(line, &f) != nil {
		return File{}, bad
	}
	if again, err := f.Encode(); err != nil || !bytes.Equal(again, data) {
		return File{}, bad
	}
	return f, nil
}

// Encode returns the file's bytes.
func (f File) Encode() ([]byte, error) {
	b := bytes.NewBufferString(header + "\n")
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(f); err != nil {
		return nil, fmt.Errorf("writing a pending change: %v", err)
	}
	return b.Bytes(), nil
}

// Name is what the file of this change is called: the same change has the same
// name, two different ones do not.
func (c *Change) Name() string {
	return fmt.Sprintf("roster-%d-%s.pending", c.After.Version, c.Update.Statement.Hash().String()[:8])
}

// Merge adds the signatures of another copy of the same change, for owners who
// signed at the same time. None of them is verified yet.
func (f File) Merge(other File) (File, error) {
	if !bytes.Equal(f.Update.Statement, other.Update.Statement) {
		return File{}, refusal.New(refusal.BadStatement, "the files hold two different changes")
	}
	f.Update.Cosignatures = slices.Clone(f.Update.Cosignatures)
	for _, c := range other.Update.Cosignatures {
		if !slices.Contains(f.Update.Cosignatures, c) {
			f.Update.Cosignatures = append(f.Update.Cosignatures, c)
		}
	}
	return f, nil
}

// chainFor is what a file carries of the chain up to before.
func chainFor(before *roster.State) []wire.RosterUpdate {
	chain, size := before.Chain(), 0
	for _, u := range chain {
		size += len(u.Statement)
	}
	if size > maxChain || chain == nil {
		return []wire.RosterUpdate{}
	}
	return chain
}
