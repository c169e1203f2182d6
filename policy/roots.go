package policy

import (
	"errors"
	"slices"
	"strings"
)

// Limits of the folders that rules open together for one request; our choice. A copy
// opens each of them, and the answer with all their names goes to the process that
// serves it.
const (
	MaxRoots     = 1000     // folders
	MaxRootBytes = 64 << 10 // of their names together
)

const manyRoots = "the allow rules that match open more than 1,000 folders for this, or 64 KiB of their names: name the folders that these lie in"

// overRoots reports that no copy can be confined to so many folders.
func overRoots(list []string) bool {
	bytes := 0
	for _, name := range list {
		bytes += len(name)
	}
	return len(list) > MaxRoots || bytes > MaxRootBytes
}

// crowded says that x never allows anything, because it opens too many folders with
// the rules that match whenever it does, or "".
func (r *Rules) crowded(x *rule) string {
	open := x.roots
	if x.block || open == nil {
		return ""
	}
	for _, y := range r.rules {
		if y != x && !y.block && y.covers(x) {
			open = joinRoots(open, y.roots)
		}
	}
	if !overRoots(open) {
		return ""
	}
	return "roots: " + manyRoots + "; as it is, every copy is denied"
}

// roots checks a rule's folders for copies.
func roots(list []directory, on actionSet, block bool, err *error) []string {
	switch {
	case *err != nil || list == nil:
	case block:
		*err = errors.New("roots: a block rule cannot close folders; name in allow rules what is open")
	case on&^Copy.bit() != 0:
		*err = errors.New(`roots: they restrict copies only; write actions = ["copy"] and another rule for the rest`)
	}
	return texts(list)
}

// joinRoots are the folders that two rules open together; nil is all of them.
func joinRoots(a, b []string) []string {
	if a == nil || b == nil {
		return nil
	}
	joined := slices.Concat(a, b)
	slices.Sort(joined)
	return slices.Compact(joined)
}

// bothRoots are the folders that both of two policies open. Empty and not nil means
// that there are none.
func bothRoots(a, b []string) []string {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	both := []string{}
	for _, x := range a {
		if slices.ContainsFunc(b, func(y string) bool { return below(x, y) }) {
			both = append(both, x)
		}
	}
	for _, y := range b {
		if slices.ContainsFunc(a, func(x string) bool { return y != x && below(y, x) }) {
			both = append(both, y)
		}
	}
	slices.Sort(both)
	return slices.Compact(both)
}

// nested says which folder of x lies below one that another rule opens in another
// direction, or "". Who writes the outer one is one mistake of ours, or one program
// of the machine that follows links, away from choosing what the inner one is.
func (r *Rules) nested(x *rule) string {
	if len(x.roots) == 0 {
		return "" // most rules, and each would be held against all the others
	}
	directions := Copy.bit()
	for _, y := range r.rules {
		if y == x || x.actions&directions == y.actions&directions {
			continue
		}
		for _, inner := range x.roots {
			if i := slices.IndexFunc(y.roots, func(outer string) bool { return outer != inner && below(inner, outer) }); i >= 0 {
				return "roots: " + inner + " lies below " + y.roots[i] + ", which rule " + y.id + " opens in another direction; keep folders to read and folders to write apart"
			}
		}
	}
	return ""
}

// below reports that a path is a folder or lies in it.
func below(path, folder string) bool {
	rest, ok := strings.CutPrefix(path, strings.TrimRight(folder, `/\`))
	return ok && (rest == "" || rest[0] == '/' || rest[0] == '\\')
}
