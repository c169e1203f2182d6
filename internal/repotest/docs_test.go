package repotest

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents returns what is written for people by its path. Decisions tell what was,
// and keep the names of their time.
func documents(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(paths) == 0 {
			t.Fatalf("no documents: %v", err)
		}
		for _, p := range paths {
			text, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			all[pattern[:strings.LastIndexByte(pattern, '*')]+filepath.Base(p)] = string(text)
		}
	}
	return all
}

var testNamed = regexp.MustCompile("`((?:Test|Benchmark|Fuzz)[A-Z][A-Za-z0-9_]*)`")

// A document that names a test promises that it can be run.
func TestDocumentsNameTestsThatThereAre(t *testing.T) {
	there := map[string]bool{}
	for _, f := range sources(t) {
		for _, name := range f.tests() {
			there[name] = true
		}
	}
	for doc, text := range documents(t) {
		for _, m := range testNamed.FindAllStringSubmatch(text, -1) {
			if !there[m[1]] {
				t.Errorf("%s names %s, which is not there", doc, m[1])
			}
		}
	}
}

// parts are the folders of the top level that documents lead to.
var parts = []string{".ci", "agent", "relay", "rendezvous", "operator", "crypto", "policy", "docs", "cmd", "internal"}

var quoted = regexp.MustCompile("`([A-Za-z0-9_.*/-]+)`")

// resolve returns the file or folder, from the root, that a document means by word: a
// path from the root, or, after one whose folder is after, a path from there or from a
// folder above, as in "`relay/doc.go`, `table.go`". "" is none.
func resolve(word, after string) string {
	for dir := after; dir != "" && dir != "."; dir = path.Dir(dir) {
		if exists(dir + "/" + word) {
			return dir + "/" + word
		}
	}
	if exists(word) {
		return path.Clean(word)
	}
	return ""
}

func exists(p string) bool {
	found, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(p)))
	return err == nil && len(found) > 0
}

// folder returns the folder that p is or lies in.
func folder(p string) string {
	if path.Ext(p) != "" || strings.HasSuffix(p, "*") {
		return path.Dir(p)
	}
	return p
}

// missing returns the paths that a paragraph names and that are not there.
func missing(paragraph string) (list []string) {
	after := ""
	for _, m := range quoted.FindAllStringSubmatch(paragraph, -1) {
		word := strings.TrimPrefix(m[1], "./")
		first, _, deep := strings.Cut(word, "/")
		if !strings.HasSuffix(word, ".go") && (!deep || !slices.Contains(parts, first)) {
			continue // a command, a key, a path of some machine
		}
		found := resolve(word, after)
		if found == "" {
			list = append(list, m[1])
			continue
		}
		after = folder(found)
	}
	return list
}

// Whoever reads the map goes where it leads.
func TestDocumentsNameFilesThatThereAre(t *testing.T) {
	for doc, text := range documents(t) {
		for paragraph := range strings.SplitSeq(text, "\n\n") {
			for _, name := range missing(paragraph) {
				t.Errorf("%s names %s, which is not there", doc, name)
			}
		}
	}
}

// named returns the packages that a row of a table names in its first cell, and the
// words there that are no package.
func named(row string, packages []string) (found, wrong []string) {
	after := ""
	cells := strings.Split(row, "|")
	if len(cells) < 3 {
		return nil, nil
	}
	for _, m := range quoted.FindAllStringSubmatch(cells[1], -1) {
		word := resolve(m[1], after)
		switch dir, all := strings.CutSuffix(word, "/*"); {
		case all:
			for _, pkg := range packages {
				if pkg == dir || path.Dir(pkg) == dir {
					found = append(found, pkg)
				}
			}
		case !slices.Contains(packages, word):
			wrong = append(wrong, m[1])
			continue
		default:
			found = append(found, word)
		}
		after = folder(word)
	}
	return found, wrong
}

// The table of folders in ARCHITECTURE is where somebody new looks a package up.
func TestArchitectureNamesEveryPackage(t *testing.T) {
	text := documents(t)["docs/ARCHITECTURE.md"]
	_, table, begins := strings.Cut(text, "\n| Folder |")
	table, _, ends := strings.Cut(table, "\n\n")
	if !begins || !ends {
		t.Fatal("docs/ARCHITECTURE.md has no table of folders")
	}
	all := packages(sources(t))
	var there []string
	for row := range strings.Lines(table) {
		found, wrong := named(row, all)
		there = append(there, found...)
		for _, word := range wrong {
			t.Errorf("the table of folders names %s, which is no package", word)
		}
	}
	for _, pkg := range all {
		if !slices.Contains(there, pkg) {
			t.Errorf("the table of folders does not name %s", pkg)
		}
	}
	slices.Sort(there)
	for i := 1; i < len(there); i++ {
		if there[i] == there[i-1] {
			t.Errorf("the table of folders names %s twice", there[i])
		}
	}
}

func TestNamesInDocumentsAreResolved(t *testing.T) {
	for paragraph, want := range map[string]string{
		"`relay/doc.go`, `table.go`; `relay/guard/check.go`, `table.go`": "[]",
		"`table.go`":                        "[table.go]",
		"`relay/none.go` `internal/none`":   "[relay/none.go internal/none]",
		"`docs/decisions/0001-*` `./relay`": "[]",
		"`logs/HOST.stdout` `/relay`":       "[]",
	} {
		if got := fmt.Sprint(missing(paragraph)); got != want {
			t.Errorf("%s: %s", paragraph, got)
		}
	}
	found, wrong := named("| `relay`, `guard`, `crypto/key`, `statement`, `none` | `policy` |", packages(sources(t)))
	if fmt.Sprint(found, wrong) != "[relay relay/guard crypto/key crypto/statement] [none]" {
		t.Error(found, wrong)
	}
}
