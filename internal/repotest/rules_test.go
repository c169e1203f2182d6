package repotest

import (
	"go/ast"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Longest files, in lines; style rules 1 and 3.
const (
	maxLines     = 500
	maxMainLines = 100

	maxFuncLines = 60 // outside of tests, where a table may make them longer
)

func TestFunctionsStayReadable(t *testing.T) {
	for _, f := range sources(t) {
		for _, decl := range f.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || f.test {
				continue
			}
			lines := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1
			if lines > maxFuncLines {
				t.Errorf("%s %s has %d lines, the limit is %d: take out what has a name", f.path, fn.Name.Name, lines, maxFuncLines)
			}
		}
	}
}

func TestEveryPackageHasOneDoc(t *testing.T) {
	docs := map[string][]string{}
	for _, f := range sources(t) {
		if f.ast.Doc != nil && !f.test {
			docs[f.pkg] = append(docs[f.pkg], f.path)
		}
	}
	for _, pkg := range packages(sources(t)) {
		if len(docs[pkg]) != 1 {
			t.Errorf("package %q has %d package docs %v, want one", pkg, len(docs[pkg]), docs[pkg])
		}
	}
}

// The program does it, because with the race detector our own printing of the whole
// tree would take a quarter of a minute.
func TestFilesAreFormatted(t *testing.T) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(strings.TrimSpace(string(out)), "bin", "gofmt"), "-l")
	for _, f := range sources(t) {
		cmd.Args = append(cmd.Args, f.path)
	}
	cmd.Dir = root
	list, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("gofmt: %v %s", err, list)
	}
	for path := range strings.Lines(string(list)) {
		t.Errorf("%s is not formatted: run gofmt -w on it", strings.TrimSpace(path))
	}
}

// A name in a group has a comment of its own, or the group's says where it is explained:
// by the name itself, in the package comment, or in an RFC.
func TestGroupedNamesAreExplained(t *testing.T) {
	for _, f := range sources(t) {
		for _, decl := range f.ast.Decls {
			group, ok := decl.(*ast.GenDecl)
			if !ok || f.test || !group.Lparen.IsValid() {
				continue
			}
			doc := group.Doc.Text()
			for _, spec := range group.Specs {
				v, ok := spec.(*ast.ValueSpec)
				if !ok || v.Doc != nil || v.Comment != nil || strings.Contains(doc, "RFC ") || strings.Contains(doc, "the package comment") {
					continue
				}
				for _, name := range v.Names {
					if name.IsExported() && !strings.Contains(doc, name.Name) {
						t.Errorf("%s: %s has no comment", f.path, name.Name)
					}
				}
			}
		}
	}
}

func TestFilesStayReadable(t *testing.T) {
	for _, f := range sources(t) {
		lines := strings.Count(f.text, "\n")
		if lines > maxLines {
			t.Errorf("%s has %d lines, the limit is %d: split it", f.path, lines, maxLines)
		}
		if strings.HasPrefix(f.pkg, "cmd/") && strings.HasSuffix(f.path, "/main.go") && lines > maxMainLines {
			t.Errorf("%s has %d lines, the limit is %d: a main parses flags, calls Run and prints the error", f.path, lines, maxMainLines)
		}
	}
}

// Whoever comes anew reads the top level first: it names the parts of the system, and
// what is none of them is below docs, cmd or internal. The folder bin is where OPERATIONS
// has people build the programs.
func TestTheTopLevelNamesTheParts(t *testing.T) {
	list, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if e.IsDir() && e.Name()[0] != '.' && e.Name() != "bin" && !slices.Contains(parts, e.Name()) {
			t.Errorf("%s is no part of the system: move it below one of %v", e.Name(), parts)
		}
	}
}

// nameOf is what the file calls an import.
func (f *source) nameOf(path string) string {
	for _, spec := range f.ast.Imports {
		if strings.Trim(spec.Path.Value, `"`) == path && spec.Name != nil {
			return spec.Name.Name
		}
	}
	return path[strings.LastIndexByte(path, '/')+1:]
}

// uses reports whether the file names package.member of an import, under
// whatever name it is imported.
func (f *source) uses(path, member string) bool {
	if !slices.Contains(f.imports, path) || !strings.Contains(f.text, member) {
		return false
	}
	name := f.nameOf(path)
	found := false
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == member {
			x, ok := s.X.(*ast.Ident)
			found = found || ok && x.Name == name
		}
		return !found
	})
	return found
}

// names reports whether the identifier stands anywhere in the file's code.
func (f *source) names(ident string) bool {
	if !strings.Contains(f.text, ident) {
		return false
	}
	found := false
	ast.Inspect(f.ast, func(n ast.Node) bool {
		x, ok := n.(*ast.Ident)
		found = found || ok && x.Name == ident
		return !found
	})
	return found
}

// pure packages give the same answer for the same input, everywhere.
var pure = []string{"policy"}

func TestPolicyIsPure(t *testing.T) {
	for _, f := range sources(t) {
		if f.test || !slices.Contains(pure, f.pkg) {
			continue
		}
		for _, path := range f.imports {
			for _, banned := range []string{"os", "net", "syscall", "math/rand", "math/rand/v2", "crypto/rand", "io/ioutil", "runtime", "unsafe", "log", "log/slog", "path/filepath"} {
				if path != "net/netip" && (path == banned || strings.HasPrefix(path, banned+"/")) { // netip reads addresses and reaches nothing
					t.Errorf("%s imports %s", f.path, path)
				}
			}
		}
		for _, clock := range []string{"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep", "Local"} {
			if f.uses("time", clock) {
				t.Errorf("%s uses time.%s: time is a parameter here", f.path, clock)
			}
		}
	}
}

// unverified are the places that switch the library's own check of a certificate
// off, because they make a stricter one.
var unverified = map[string]string{
	"rendezvous/client/tls.go": "the pin in the join token decides, not a list of authorities",
	"relay/hop/tls.go":         "the pin in the grant decides",
	"internal/transport":       "a certificate per session whose hash the sealed channel has proved",
}

func TestCertificatesAreCheckedInOnePlace(t *testing.T) {
	for _, f := range sources(t) {
		if f.pkg == "internal/repotest" || f.test || unverified[f.path] != "" || unverified[f.pkg] != "" {
			continue
		}
		if f.names("InsecureSkipVerify") {
			t.Errorf("%s sets InsecureSkipVerify: use the TLS constructor of rendezvous/client", f.path)
		}
	}
}

// In a bubble of testing/synctest sleeping costs no time and cannot be too short;
// anywhere else it is a guess.
func TestTestsDoNotSleep(t *testing.T) {
	for _, f := range sources(t) {
		if f.test && f.uses("time", "Sleep") && !slices.Contains(f.imports, "testing/synctest") {
			t.Errorf("%s sleeps: wait for a condition with a deadline, or use testing/synctest", f.path)
		}
	}
}

// The simple protocol of pgx puts arguments into the text of a query, and its
// quoting has failed before (GO-2026-5004).
func TestQueriesKeepTheirArgumentsApart(t *testing.T) {
	for _, f := range sources(t) {
		if strings.HasSuffix(f.path, "_test.go") { // where it is named to be refused
			continue
		}
		for _, word := range []string{"QueryExecModeSimpleProtocol", "PreferSimpleProtocol", "simple_protocol"} {
			if strings.Contains(f.text, word) {
				t.Errorf("%s names %s", f.path, word)
			}
		}
	}
}

// What goes to a person's terminal goes by way of internal/cli, which makes the texts in
// it inert: a call that prints there itself has to remember to (attack J1). Bytes that are
// the answer as they are, such as a file's, are passed to Write.
func TestOnlyCliPrintsToTheStreamsOfACommand(t *testing.T) {
	for _, f := range sources(t) {
		if f.test || f.pkg == "internal/cli" {
			continue
		}
		for _, place := range f.printsToStreams() {
			t.Errorf("%s prints to the streams of a command itself: use Print, Say or Ask of cli.IO", place)
		}
	}
}

// printsToStreams are the lines that print to the field Out or Err of something.
func (f *source) printsToStreams() (places []string) {
	ast.Inspect(f.ast, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		fun, isSel := call.Fun.(*ast.SelectorExpr)
		to, isField := call.Args[0].(*ast.SelectorExpr)
		if !isSel || !isField || to.Sel.Name != "Out" && to.Sel.Name != "Err" {
			return true
		}
		pkg, _ := fun.X.(*ast.Ident)
		if pkg != nil && (pkg.Name == f.nameOf("fmt") && strings.HasPrefix(fun.Sel.Name, "Fprint") || pkg.Name == f.nameOf("io") && fun.Sel.Name == "WriteString") {
			places = append(places, fset.Position(call.Pos()).String())
		}
		return true
	})
	return places
}

func TestNothingRunsAtImport(t *testing.T) {
	for _, f := range sources(t) {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s has an init function", f.path)
			}
		}
	}
}

func TestOnlyProgramsExit(t *testing.T) {
	for _, f := range sources(t) {
		if f.test || strings.HasPrefix(f.pkg, "cmd/") {
			continue
		}
		if f.uses("os", "Exit") || f.uses("log", "Fatal") || f.uses("log", "Fatalf") {
			t.Errorf("%s ends the process: return an error, main decides", f.path)
		}
	}
}

func TestNoDrawerPackages(t *testing.T) {
	for _, pkg := range packages(sources(t)) {
		switch pkg[strings.LastIndexByte(pkg, '/')+1:] {
		case "util", "utils", "common", "helper", "helpers", "types", "models", "misc", "shared", "lib":
			t.Errorf("package %s has a name that says nothing", pkg)
		}
	}
}

// A fuzz corpus or a vector file that no test reads proves nothing.
func TestTestdataHasTests(t *testing.T) {
	withTests := map[string]bool{}
	for _, f := range sources(t) {
		withTests[f.pkg] = withTests[f.pkg] || f.test
	}
	for pkg := range withTests {
		if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(pkg), "testdata")); err == nil && !withTests[pkg] {
			t.Errorf("%s has testdata and no test", pkg)
		}
	}
}
