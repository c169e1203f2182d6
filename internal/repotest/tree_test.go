package repotest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/tucdesk/tucdesk"
)

// source is one Go file of the repository.
type source struct {
	path    string // from the root, with slashes
	pkg     string // its folder
	test    bool
	text    string
	ast     *ast.File
	imports []string
}

// load parses the tree once for all tests.
var load = sync.OnceValues(func() ([]*source, error) {
	var files []*source
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && path != root && skipped(e.Name(), path) {
			return fs.SkipDir
		}
		if e.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		f, err := parse(filepath.ToSlash(rel), text)
		files = append(files, f)
		return err
	})
	return files, err
})

// skipped reports folders that the go command does not look into, and modules of
// their own.
func skipped(name, path string) bool {
	if name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return true
	}
	_, err := os.Stat(filepath.Join(path, "go.mod"))
	return err == nil
}

var fset = token.NewFileSet()

func parse(rel string, text []byte) (*source, error) {
	f := &source{path: rel, test: strings.HasSuffix(rel, "_test.go"), text: string(text)}
	if i := strings.LastIndexByte(rel, '/'); i >= 0 {
		f.pkg = rel[:i]
	}
	var err error
	if f.ast, err = parser.ParseFile(fset, rel, text, parser.ParseComments|parser.SkipObjectResolution); err != nil {
		return nil, err
	}
	for _, spec := range f.ast.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		f.imports = append(f.imports, name)
	}
	return f, nil
}

// sources returns the files of the repository.
func sources(t *testing.T) []*source {
	t.Helper()
	files, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 {
		t.Fatalf("found %d files: this test no longer sees the repository", len(files))
	}
	return files
}

// tests returns the names of the tests, benchmarks and fuzz targets in the file, and of
// other functions there without a receiver.
func (f *source) tests() (names []string) {
	for _, d := range f.ast.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && f.test && fn.Recv == nil {
			names = append(names, fn.Name.Name)
		}
	}
	return names
}

// packages returns the folders that hold Go files, sorted.
func packages(files []*source) []string {
	var list []string
	for _, f := range files {
		if !slices.Contains(list, f.pkg) {
			list = append(list, f.pkg)
		}
	}
	slices.Sort(list)
	return list
}

// ours returns the folder of an import of this module.
func ours(path string) (string, bool) {
	if path == module {
		return "", true
	}
	return strings.CutPrefix(path, module+"/")
}

// modules reads the required modules out of go.mod, longest path first.
func modules(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(fields) >= 2 && strings.Contains(fields[0], ".") && strings.HasPrefix(fields[1], "v") {
			list = append(list, fields[0])
		}
	}
	slices.SortFunc(list, func(a, b string) int { return len(b) - len(a) })
	return list
}

// moduleOf returns the required module that provides a package, "" for the
// standard library.
func moduleOf(modules []string, path string) string {
	for _, m := range modules {
		if path == m || strings.HasPrefix(path, m+"/") {
			return m
		}
	}
	return ""
}

// standard reports a package of the standard library: its first element has no dot.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}
