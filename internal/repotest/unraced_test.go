package repotest

import (
	"bufio"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var unracedEntry = regexp.MustCompile(`^\s+([a-z0-9/]+)='([^']+)'$`)

// unraced reads the list of what CI runs without the race detector: the tests of each
// package, as "go test -run" takes them.
func unraced(t *testing.T) map[string]*regexp.Regexp {
	t.Helper()
	f, err := os.Open(filepath.Join(root, ".ci/run"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	list := map[string]*regexp.Regexp{}
	inside := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		switch line := lines.Text(); {
		case line == "unraced=(":
			inside = true
		case inside && line == ")":
			return list
		case inside:
			m := unracedEntry.FindStringSubmatch(line)
			if m == nil {
				t.Fatalf("the list of unraced tests has the line %q", line)
			}
			list[m[1]] = regexp.MustCompile("^(" + m[2] + ")$")
		}
	}
	t.Fatal("no list of unraced tests in .ci/run")
	return nil
}

// withoutRace reports whether the file is built without the race detector only.
func (f *source) withoutRace() bool {
	for line := range strings.Lines(f.text) {
		if strings.HasPrefix(line, "package ") {
			return false
		}
		if strings.HasPrefix(line, "//go:build") && strings.Contains(line, "!race") {
			return true
		}
	}
	return false
}

// The step that runs everything has the race detector on: a test that it leaves out and
// nothing else runs holds nothing.
func TestWhatTheRaceDetectorLeavesOutIsRunBesides(t *testing.T) {
	list, needed := unraced(t), map[string]bool{}
	for _, f := range sources(t) {
		if !f.test || !f.withoutRace() {
			continue
		}
		needed[f.pkg] = true
		if list[f.pkg] == nil {
			t.Errorf("%s: CI runs nothing of %s without the race detector: add it to unraced in .ci/run", f.path, f.pkg)
			continue
		}
		for _, name := range f.tests() {
			if strings.HasPrefix(name, "Test") && name != "TestMain" && !list[f.pkg].MatchString(name) {
				t.Errorf("%s: CI never runs %s: add it to unraced in .ci/run", f.path, name)
			}
		}
	}
	for pkg := range list {
		if !needed[pkg] {
			t.Errorf("unraced in .ci/run names %s, which has no file for it", pkg)
		}
	}
}
