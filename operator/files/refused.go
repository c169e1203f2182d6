package files

import (
	"errors"
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

// blame names the machine that has broken the rules of a copy: of two, a person has to
// know which one lies. Other errors stay what they are.
func blame(host, user string, err error) error {
	var e *refusal.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code {
	case refusal.ProtocolError, refusal.TooMany, refusal.TooLarge, refusal.BadPath:
		return refusal.New(e.Code, "%s: %s", strings.TrimSuffix(place{host: host, user: user}.String(), ":"), e.Detail)
	}
	return err
}

// notTaken says that nothing can be written at a target, and why.
func notTaken(target place, flags filecopy.Flags, code refusal.Code, why string) error {
	if code != refusal.NotFound {
		return refusal.New(code, "%s: %s", target, why)
	}
	folder := target.path
	if flags&filecopy.Into == 0 {
		folder = missing(target) // the folder that the file is to lie in
	}
	name := terminal.Quote([]byte(folder))
	if !target.remote() {
		return &cli.Error{Err: refusal.New(code, "there is no folder %s here", name), Hints: []string{"make it first, as with: mkdir -p " + name}}
	}
	hints := []string{"a path that is not absolute begins in the user's home there"}
	if ofWindows(target.path) { // which has no program mkdir, nor a shell to quote for
		name = folder
	} else {
		login := strings.TrimSuffix(place{host: target.host, user: target.user}.String(), ":")
		hints = slices.Insert(hints, 0, fmt.Sprintf("make it first: tucdesk exec %s -- mkdir -p %s", login, name))
	}
	return &cli.Error{Err: refusal.New(code, "there is no folder %s on %s", name, target.host), Hints: hints}
}

// missing is the folder that target lies in, or target itself where it is written as a
// folder. A path on a machine is read as that machine does, whatever this program runs
// on.
func missing(target place) string {
	name := target.path
	separators, dir := "/", path.Dir
	switch {
	case !target.remote():
		separators, dir = "/"+string(os.PathSeparator), filepath.Dir
	case ofWindows(name):
		separators, dir = `/\`, windowsDir
	}
	if name == "" || strings.ContainsRune(separators, rune(name[len(name)-1])) {
		return name
	}
	return dir(name)
}

// ofWindows reports whether a path on a machine looks like one of Windows: by a drive's
// letter, or by a backslash where no path of another system begins.
func ofWindows(name string) bool {
	drive := len(name) > 1 && name[1] == ':' && 'a' <= name[0]|0x20 && name[0]|0x20 <= 'z'
	return drive || strings.Contains(name, `\`) && name[0] != '/'
}

// windowsDir is all of a path but its last element. A root keeps its separator: "C:"
// alone is another folder than `C:\`.
func windowsDir(name string) string {
	folder := name[:strings.LastIndexAny(name, `/\:`)+1]
	if cut := strings.TrimRight(folder, `/\`); cut != "" && !strings.HasSuffix(cut, ":") {
		return cut
	}
	return folder
}

// maxReasons is for how many kinds of problems hints follow; our choice.
const maxReasons = 3

// leftOut is the end of a copy that is not whole: what became of each entry stands
// above, or in the answer as JSON, but for more that were too many, and the hints are
// for the kinds of reasons, in the order in which they came.
func leftOut(all []problem, more uint64, asJSON bool) error {
	var hints []string
	var codes []refusal.Code
	special := 0 // no -r and no second try makes data of a device
	for _, p := range all {
		if p.Code == refusal.BadFile && p.Text == filecopy.NotData {
			special++
			continue
		}
		if !slices.Contains(codes, p.Code) && len(codes) < maxReasons {
			codes = append(codes, p.Code)
			hints = append(hints, entryHint(p.Code)...)
		}
	}
	if special < len(all) || more > 0 {
		hints = append(hints, "then run the same command again: what is there already is not sent again")
	}
	named := "named above"
	if asJSON {
		named = "named in the answer"
	}
	if more > 0 {
		named = fmt.Sprintf("the first %d %s", len(all), named)
	}
	return &cli.Error{Err: fmt.Errorf("not everything was copied: %s, %s", cli.Count(uint64(len(all))+more, "problem"), named), Exit: cli.ExitFailed, Hints: hints}
}

// entryHint is what to do about one entry. Where it is not that of the code, the
// code means something else outside of copies.
func entryHint(code refusal.Code) []string {
	switch code {
	case refusal.NotFound:
		return []string{"not_found: is the path right? on a machine, one that is not absolute begins in the user's home"}
	case refusal.BadPath:
		return []string{"bad_path: a link is copied where it stays inside the folder that is copied, and a name where the other system has it; copy what the link leads to, or under another name, by itself"}
	}
	hints := slices.Clone(cli.Hints(code))
	for i, h := range hints {
		hints[i] = string(code) + ": " + h
	}
	return hints
}
