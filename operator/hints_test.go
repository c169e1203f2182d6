package operator

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/cli"
)

// advised is a command line of ours inside a text: one or two lower-case words.
var advised = regexp.MustCompile(`(?:^|[\s:("'])tucdesk ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?`)

// prose follows the name of the program in sentences about it.
var prose = []string{"finds", "has", "opens"}

// A hint that cannot be typed is worse than none: each command that a text of ours names
// is one that there is.
func TestTextsNameCommandsThatExist(t *testing.T) {
	seen := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			text, _ := strconv.Unquote(lit.Value)
			for _, m := range advised.FindAllStringSubmatch(text, -1) {
				seen++
				if !slices.Contains(prose, m[1]) && !exists(m[1], m[2]) {
					t.Errorf("%s: there is no %q", path, strings.TrimSpace("tucdesk "+m[1]+" "+m[2]))
				}
			}
			return true
		})
		return nil
	})
	if err != nil || seen < 100 {
		t.Errorf("%d commands found, %v", seen, err)
	}
}

// exists reports whether verb is one of ours, and where it has others below it, word too.
func exists(verb, word string) bool {
	find := func(list []*cli.Command, name string) *cli.Command {
		at := slices.IndexFunc(list, func(c *cli.Command) bool { first, _, _ := strings.Cut(c.Use, " "); return first == name })
		if at < 0 {
			return nil
		}
		return list[at]
	}
	c := find(Command().Sub, verb)
	return c != nil && (len(c.Sub) == 0 || word == "" || find(c.Sub, word) != nil) || slices.Contains([]string{"help", "version", "completion"}, verb)
}
