package files

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/filecopy"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
)

// String is the place as a person types it.
func (p place) String() string {
	switch {
	case p.host == "":
		return p.path
	case p.user == "":
		return p.host + ":" + p.path
	}
	return p.user + "@" + p.host + ":" + p.path
}

// notBegun is a machine's refusal of what m asks of it. The machine does not repeat
// names, which may be those of other people's folders; this end knows what it asked
// for.
func notBegun(host, user string, m filecopy.Message, r filecopy.Refused) error {
	at, code := place{host: host, user: user}, refusal.Plain(r.Code)
	switch m := m.(type) {
	case filecopy.Put:
		at.path = m.Path
		return notTaken(at, m.Flags, code, r.Text)
	case filecopy.Get:
		if at.path = m.Paths[0]; len(m.Paths) > 1 {
			return refusal.New(code, "%s and %s: %s", at, cli.Count(len(m.Paths)-1, "other"), r.Text)
		}
	}
	return refusal.New(code, "%s: %s", at, r.Text)
}

// notTaken says that nothing can be written at a target, and why.
func notTaken(target place, flags filecopy.Flags, code refusal.Code, why string) error {
	if code != refusal.NotFound {
		return refusal.New(code, "%s: %s", target, why)
	}
	folder, dir := target.path, path.Dir
	if !target.remote() {
		dir = filepath.Dir
	}
	if flags&filecopy.Into == 0 && folder != "" && !os.IsPathSeparator(folder[len(folder)-1]) {
		folder = dir(folder) // what is missing is the folder that the file is to lie in
	}
	name := terminal.Quote([]byte(folder))
	if !target.remote() {
		return &cli.Error{Err: refusal.New(code, "there is no folder %s here", name), Hints: []string{"make it first, as with: mkdir -p " + name}}
	}
	login := strings.TrimSuffix(place{host: target.host, user: target.user}.String(), ":")
	return &cli.Error{Err: refusal.New(code, "there is no folder %s on %s", name, target.host),
		Hints: []string{fmt.Sprintf("make it first: tucdesk exec %s -- mkdir -p %s", login, name), "a path that is not absolute begins in the user's home there"}}
}

// maxReasons is for how many kinds of problems hints follow; our choice.
const maxReasons = 3

// leftOut is the end of a copy that is not whole: what became of each entry stands
// above, and the hints are for the kinds of reasons, in the order in which they came.
func leftOut(all []problem) error {
	var hints []string
	var codes []refusal.Code
	for _, p := range all {
		if !slices.Contains(codes, p.Code) && len(codes) < maxReasons {
			codes = append(codes, p.Code)
			hints = append(hints, entryHint(p.Code)...)
		}
	}
	return &cli.Error{Err: fmt.Errorf("not everything was copied: %s, named above", cli.Count(len(all), "problem")), Exit: cli.ExitFailed,
		Hints: append(hints, "then run the same command again: what is there already is not sent again")}
}

// entryHint is what to do about one entry. Where it is not that of the code, the
// code means something else outside of copies.
func entryHint(code refusal.Code) []string {
	if code == refusal.NotFound {
		return []string{"not_found: is the path right? on a machine, one that is not absolute begins in the user's home"}
	}
	hints := slices.Clone(cli.Hints(code))
	for i, h := range hints {
		hints[i] = string(code) + ": " + h
	}
	return hints
}
