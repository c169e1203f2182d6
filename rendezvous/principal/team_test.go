package principal

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/wire"
)

// mayTrust are the folders whose code may call Trusted.
var mayTrust = map[string]bool{"rendezvous/store": true}

// A TeamID that was not verified must not exist: the whole module is read for
// calls of Trusted. Files are read through the os package, so that the test
// cache notices any change.
func TestOnlyTheStoreTrustsTeams(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	read, calls := 0, 0
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			if err == nil && d.IsDir() && d.Name() != "." && strings.HasPrefix(d.Name(), ".") {
				return filepath.SkipDir
			}
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		read++
		rel, _ := filepath.Rel(root, filepath.Dir(path))
		if n := trusts(t, path, raw); n > 0 && !mayTrust[filepath.ToSlash(rel)] {
			t.Errorf("%s makes a TeamID of plain bytes", path)
		} else {
			calls += n
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if read < 20 || calls == 0 {
		t.Errorf("read only %d files and saw %d calls: the scan is broken", read, calls)
	}
}

// trusts counts uses of principal.Trusted, under whatever name it is imported.
func trusts(t *testing.T, path string, raw []byte) (n int) {
	t.Helper()
	tree, err := parser.ParseFile(gotoken.NewFileSet(), path, raw, parser.SkipObjectResolution)
	if err != nil {
		return 0 // half-written by somebody: it does not compile either
	}
	name := ""
	for _, imp := range tree.Imports {
		if strings.Trim(imp.Path.Value, `"`) == "github.com/tucdesk/tucdesk/rendezvous/principal" {
			if name = "principal"; imp.Name != nil {
				name = imp.Name.Name
			}
		}
	}
	if name == "" {
		return 0
	}
	if name == "." {
		t.Errorf("%s imports principal without a name", path)
	}
	ast.Inspect(tree, func(node ast.Node) bool {
		if sel, ok := node.(*ast.SelectorExpr); ok && sel.Sel.Name == "Trusted" {
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == name {
				n++
			}
		}
		return true
	})
	return n
}

func TestTeamIDText(t *testing.T) {
	id := wire.TeamID{1, 2, 3}
	if team := Trusted(id); team.Wire() != id || team.String() != id.String() || team.IsZero() {
		t.Errorf("%v", team)
	}
	if !(TeamID{}).IsZero() {
		t.Error("no team is one")
	}
}
