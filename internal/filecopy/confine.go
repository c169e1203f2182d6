package filecopy

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Folders are where a copy may read or write at one end: below one of these
// absolute paths; nil is wherever the user may.
type Folders []string

var errOutside = refusal.New(refusal.PolicyDenied, "it is in none of the folders that the policy opens for copies")

// Resolve follows the links in a name that exists. Of a name outside nothing is
// looked at, and one that a link leads out of the folders is refused too (attack I3).
func (f Folders) Resolve(name string) (real string, err error) {
	if f == nil {
		return filepath.EvalSymlinks(name)
	}
	if f.anchor(filepath.Clean(name)) == "" {
		return "", errOutside
	}
	real, err = filepath.EvalSymlinks(name)
	there := real
	for dir := filepath.Clean(name); there == ""; { // whether something is there outside is not told either
		up := filepath.Dir(dir)
		if up == dir {
			return "", errOutside
		}
		dir = up
		there, _ = filepath.EvalSymlinks(dir)
	}
	if f.anchor(there) == "" {
		return "", errOutside
	}
	return real, err
}

// OpenFolder opens a folder by the name that Resolve gave. Whoever exchanges a part
// of it for a link meanwhile does not lead out of the folders.
func (f Folders) OpenFolder(real string) (*os.Root, error) {
	if f == nil {
		return os.OpenRoot(real)
	}
	anchor := f.anchor(real)
	if anchor == "" {
		return nil, errOutside
	}
	rel, err := filepath.Rel(anchor, real)
	if err != nil {
		return nil, errOutside
	}
	root, err := os.OpenRoot(anchor)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.OpenRoot(rel)
}

// anchor is the folder of f that name lies in, as it is spelled or where it really
// is; "" for none. name is clean.
func (f Folders) anchor(name string) string {
	for _, folder := range f {
		folder = filepath.Clean(folder)
		if inside(name, folder) {
			return folder
		}
		if real, err := filepath.EvalSymlinks(folder); err == nil && inside(name, real) {
			return real
		}
	}
	return ""
}

func inside(name, folder string) bool {
	rest, ok := strings.CutPrefix(name, strings.TrimRight(folder, string(filepath.Separator)))
	return ok && (rest == "" || os.IsPathSeparator(rest[0]))
}
