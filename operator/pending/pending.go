// Package pending is changes of the roster that wait in files for the signatures of
// further owners: how such a file is written and read here, and what is said about
// it. What is in one is package change.
package pending

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/change"
	"github.com/tucdesk/tucdesk/operator/verb"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// View is a change that waits, as JSON.
type View struct {
	File      string   `json:"pending"`           // where it waits
	Version   uint64   `json:"rosterVersion"`     // of the roster once it is in force
	Changes   []string `json:"changes"`           // escaped as on the terminal
	Signed    []key.ID `json:"signed"`            // by these keys so far
	Short     int      `json:"signaturesMissing"` // how many more have to sign
	Owners    []key.ID `json:"owners"`            // who may give them
	Published bool     `json:"published"`         // it is in force by this very command
}

// NewView describes c, which waits in file. rules is the text in force, nil when it
// is not at hand.
func NewView(c *change.Change, file string, rules []byte) View {
	return View{File: file, Version: c.After.Version, Changes: c.Words(rules), Signed: c.Signed, Short: c.Short, Owners: verb.List(c.Owners)}
}

// Leave writes a change that this client cannot put into force, and returns the
// error that says who does what next. path is "" for the change's own name, here.
func Leave(io *cli.IO, c *change.Change, path string, asJSON bool) error {
	if path == "" {
		path = c.Name()
	}
	if _, err := os.Lstat(path); err == nil { // the file of another change must not vanish
		return verb.Exists(path)
	}
	if err := Write(path, c); err != nil {
		return err
	}
	if asJSON {
		if err := io.PrintJSON(NewView(c, path, nil)); err != nil {
			return err
		}
	}
	if c.Short > 0 {
		return Missing(c, path)
	}
	return &cli.Error{Err: refusal.New(refusal.NotEnoughSignatures, "the change is signed, but this client may not publish it; it waits in %q", path), Exit: cli.ExitPending, Hints: []string{
		"give the file to a member who is logged in; there: " + PublishLine(path),
	}}
}

// Missing says whose signature a change lacks that waits in path.
func Missing(c *change.Change, path string) error {
	hints := []string{"give the file to an owner, " + Codes(c.Owners) + "; there: " + CosignLine(path)}
	if c.After.Version > 1 {
		hints = append(hints, "until then publish nothing else: another change would make this one void")
	}
	return &cli.Error{Err: refusal.New(refusal.NotEnoughSignatures, "the change needs %s; it waits in %q", Signatures(c.Short), path), Exit: cli.ExitPending, Hints: hints}
}

// Write replaces the file as a whole. It holds no secret.
func Write(path string, c *change.Change) error {
	data, err := c.Encode()
	if err != nil {
		return err
	}
	return keyfile.WriteAtomic(path, data, 0o644)
}

// Read reads copies of one change and joins their signatures. Nothing in them has
// been verified.
func Read(io *cli.IO, paths []string) (change.File, error) {
	var all change.File
	for i, path := range paths {
		data, err := verb.ReadPublicFile(io, path, change.MaxFile, "whoever made the change has the file; its name ends in .pending")
		if err != nil {
			return all, err
		}
		f, err := change.Parse(data)
		if err != nil {
			return all, &cli.Error{Err: fmt.Errorf("reading %q: %w", path, err), Hints: []string{
				"the file was damaged on its way, or is another one; ask whoever made the change for it again"}}
		}
		if i > 0 {
			if f, err = all.Merge(f); err != nil {
				return all, fmt.Errorf("reading %q: %w", path, err)
			}
		}
		all = f
	}
	return all, nil
}

// Open verifies a change by what this account knows.
func Open(a *account.Account, f change.File) (*change.Change, error) {
	c, err := change.Open(f, a.Member.Fingerprint, a.State, time.Now())
	if err != nil {
		return nil, InForce(err)
	}
	return c, c.Before.CheckProgram(cli.Version())
}

// InForce gives an error that says that a change came too late the hint for those
// who need do nothing more, where it is the very change that is in force.
func InForce(err error) error {
	if !change.IsInForce(err) {
		return err
	}
	return &cli.Error{Err: err, Hints: []string{"nothing is left to be done; the team as it is now: tucdesk team show"}}
}

// Rules is the text of the rules that before binds, nil when it is not here.
func Rules(a *account.Account, before *roster.State) []byte {
	text, err := a.PolicyText(before, nil)
	if err != nil || a.State == nil || a.State.PolicyHash() != before.PolicyHash() || a.Rules == nil {
		return nil
	}
	return text
}

// CosignLine is what an owner types to sign the change in path.
func CosignLine(path string) string { return "tucdesk team cosign " + terminal.Quote([]byte(path)) }

// PublishLine is what a member types to put the change in path into force.
func PublishLine(path string) string { return "tucdesk team publish " + terminal.Quote([]byte(path)) }

// Signatures is how many are missing, in words.
func Signatures(n int) string { return cli.Count(n, "more signature") }

// Codes names owners by the short codes of their keys.
func Codes(ids []key.ID) string {
	codes := make([]string, len(ids))
	for i, id := range ids {
		codes[i] = id.ShortCode()
	}
	return strings.Join(codes, " or ")
}
