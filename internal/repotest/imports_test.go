package repotest

import (
	"slices"
	"strings"
	"testing"
)

func rowOf(pkg string) (row, int) {
	for i, r := range table {
		if r.pkg == pkg {
			return r, i
		}
	}
	return row{}, -1
}

func TestTableReadsDownwards(t *testing.T) {
	for i, r := range table {
		if _, first := rowOf(r.pkg); first != i {
			t.Errorf("%s has two rows", r.pkg)
		}
		for _, dep := range strings.Fields(r.deps) {
			if _, at := rowOf(dep); at < 0 || at >= i {
				t.Errorf("row %s names %s, which is not a row above it", r.pkg, dep)
			}
		}
	}
}

func TestTableAndTreeNameTheSamePackages(t *testing.T) {
	have := packages(sources(t))
	for _, pkg := range have {
		if _, at := rowOf(pkg); at < 0 {
			t.Errorf("package %q has no row in table_test.go: add one that says what it may import", pkg)
		}
	}
	for _, r := range table {
		if !slices.Contains(have, r.pkg) {
			t.Errorf("row %s has no package: remove it", r.pkg)
		}
	}
}

func TestImportsAreThoseOfTheTable(t *testing.T) {
	required := modules(t)
	for _, f := range sources(t) {
		r, at := rowOf(f.pkg)
		if at < 0 {
			continue // TestTableAndTreeNameTheSamePackages says it
		}
		for _, path := range f.imports {
			if dep, is := ours(path); is {
				if !f.test && !slices.Contains(strings.Fields(r.deps), dep) {
					t.Errorf("%s imports %s, which the row of %s does not allow", f.path, dep, f.pkg)
				}
				continue
			}
			if standard(path) {
				continue
			}
			if m := moduleOf(required, path); m == "" {
				t.Errorf("%s imports %s, which go.mod does not require", f.path, path)
			} else if !slices.Contains(strings.Fields(r.ext), m) && (!f.test || testOnly[m] == "") {
				t.Errorf("%s imports %s, which the row of %s does not allow", f.path, path, f.pkg)
			}
		}
	}
}

func TestEveryModuleHasOnePackage(t *testing.T) {
	owners := map[string][]string{}
	for _, r := range table {
		for _, m := range strings.Fields(r.ext) {
			owners[m] = append(owners[m], r.pkg)
		}
	}
	for m, list := range owners {
		if len(list) > 1 && shared[m] == "" {
			t.Errorf("%s is imported by %v: one of them should own it, or shared says why not", m, list)
		}
		if testOnly[m] != "" {
			t.Errorf("%s is for tests only, but the row of %v has it", m, list)
		}
	}
}

// A row that names a module it no longer uses keeps the module from its new owner.
func TestRowsUseTheModulesTheyName(t *testing.T) {
	required, files := modules(t), sources(t)
	for _, r := range table {
		for _, m := range strings.Fields(r.ext) {
			if !slices.ContainsFunc(files, func(f *source) bool {
				return f.pkg == r.pkg && slices.ContainsFunc(f.imports, func(p string) bool { return !standard(p) && moduleOf(required, p) == m })
			}) {
				t.Errorf("row %s names %s, which it does not import", r.pkg, m)
			}
		}
	}
}

func TestWalls(t *testing.T) {
	direct := map[string][]string{}
	for _, f := range sources(t) {
		for _, path := range f.imports {
			if dep, is := ours(path); is && !f.test {
				direct[f.pkg] = append(direct[f.pkg], dep)
			}
		}
	}
	for _, wall := range neverReaches {
		for pkg := range direct {
			if !below(pkg, wall.from) {
				continue
			}
			for _, target := range strings.Fields(wall.to) {
				if chain := reach(direct, pkg, target); chain != nil {
					t.Errorf("%s reaches %s: %s", pkg, target, strings.Join(chain, " -> "))
				}
			}
		}
	}
}

func below(pkg, top string) bool { return pkg == top || strings.HasPrefix(pkg, top+"/") }

// reach returns a chain of imports from pkg to a package below target, or nil.
func reach(direct map[string][]string, pkg, target string) []string {
	return walk(direct, pkg, target, map[string]bool{})
}

// walk is reach without the packages that were seen to lead nowhere.
func walk(direct map[string][]string, pkg, target string, seen map[string]bool) []string {
	seen[pkg] = true
	for _, dep := range direct[pkg] {
		if below(dep, target) {
			return []string{pkg, dep}
		}
		if seen[dep] {
			continue
		}
		if chain := walk(direct, dep, target, seen); chain != nil {
			return append([]string{pkg}, chain...)
		}
	}
	return nil
}
