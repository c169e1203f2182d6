package cli

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// codes are those of package refusal, by the names that its source gives them.
func codes(t *testing.T) map[string]refusal.Code {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../refusal/codes.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]refusal.Code{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		all[spec.Names[0].Name] = refusal.Code(text)
		return false
	})
	return all
}

// Whoever is refused reads what to do next, whatever the reason is.
func TestEveryRefusalSaysWhatToDo(t *testing.T) {
	all := codes(t)
	if len(all) < 90 || len(known) != len(all) {
		t.Errorf("%d codes, %d of them with hints", len(all), len(known))
	}
	for name, code := range all {
		a, ok := known[code]
		if !ok || a.exit == 0 || len(a.hints) == 0 {
			t.Errorf("%s: no exit status, or no hint", name)
		}
		for _, h := range a.hints {
			if h == "" || strings.HasSuffix(h, ".") || strings.Contains(h, "\n") {
				t.Errorf("%s: hint %q", name, h)
			}
		}
	}
}
