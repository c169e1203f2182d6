// Package helptest holds a program's help to what people need of it: one line that
// says what a command is for, examples that can be typed as they stand, and flags that
// name what they take. It is imported by tests only.
package helptest

import (
	"bytes"
	"context"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/cli"
)

// answers are verbs that list or show something: a script wants that as JSON.
var answers = []string{"ls", "show", "status", "whoami"}

// others are programs that an example may show alone: those that reach a machine
// through ours.
var others = []string{"ssh", "rsync"}

// Check looks at every command that people run; tree makes a new tree each time, since
// flags are set in it. plain are commands, such as "tucdesk policy show", whose answer
// is a text of another format already.
func Check(t *testing.T, tree func() *cli.Command, plain ...string) {
	t.Helper()
	root := tree()
	if !strings.Contains(root.Long, "Exit status") {
		t.Errorf("%s: the help names no exit status", root.Use)
	}
	each(root, "", func(path string, c *cli.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") || c.Short[:1] != strings.ToUpper(c.Short[:1]) {
			t.Errorf("%s: short help %q", path, c.Short)
		}
		if c.Run == nil {
			return
		}
		examples(t, tree, path, c.Example)
		given := flags(t, path, c)
		name := path[strings.LastIndexByte(path, ' ')+1:]
		if slices.Contains(answers, name) && !given["json"] && !slices.Contains(plain, path) {
			t.Errorf("%s: no --json", path)
		}
	})
}

// each calls f for c and all below it that people run.
func each(c *cli.Command, above string, f func(path string, c *cli.Command)) {
	if c.Hidden {
		return
	}
	name, _, _ := strings.Cut(c.Use, " ")
	path := strings.TrimSpace(above + " " + name)
	f(path, c)
	for _, sub := range c.Sub {
		each(sub, path, f)
	}
}

// examples runs each line of text as far as a command's own work.
func examples(t *testing.T, tree func() *cli.Command, path, text string) {
	t.Helper()
	own := 0
	for line := range strings.Lines(text) {
		program, _, _ := strings.Cut(path, " ")
		if strings.Contains(strings.TrimSpace(line)+" ", path+" ") { // also as a word of another program's
			own++
		}
		ours, strange := typed(program, line)
		if len(ours) == 0 && strange != "" {
			t.Errorf("%s: the example %q runs %q, not %s", path, line, strange, program)
		}
		for _, args := range ours {
			var talk bytes.Buffer
			if status := cli.Run(t.Context(), &cli.IO{In: os.Stdin, Out: &talk, Err: &talk}, still(tree()), args); status != 0 {
				t.Errorf("%s: the example %q is not taken: %s", path, line, talk.String())
			}
		}
	}
	if own == 0 {
		t.Errorf("%s: no example of its own in %q", path, text)
	}
}

// still is c with commands that do nothing.
func still(c *cli.Command) *cli.Command {
	if c.Run != nil {
		c.Run = func(context.Context, *cli.IO, []string) error { return nil }
	}
	for _, sub := range c.Sub {
		still(sub)
	}
	return c
}

// flags looks at each flag, and returns their names.
func flags(t *testing.T, path string, c *cli.Command) map[string]bool {
	t.Helper()
	given := map[string]bool{}
	if c.Flags == nil {
		return given
	}
	var set flag.FlagSet
	c.Flags(&set)
	set.VisitAll(func(f *flag.Flag) {
		given[f.Name] = true
		if f.Usage == "" {
			return // a short form, or not for people
		}
		name, usage := flag.UnquoteUsage(f)
		if strings.HasSuffix(usage, ".") || strings.Contains(usage, "  ") {
			t.Errorf("%s --%s: %q", path, f.Name, f.Usage)
		}
		if b, ok := f.Value.(interface{ IsBoolFlag() bool }); (!ok || !b.IsBoolFlag()) && !strings.Contains(f.Usage, "`") {
			t.Errorf("%s --%s %s: what it takes has no name of its own: %q", path, f.Name, name, f.Usage)
		}
	})
	return given
}

// typed is what a shell would give to program in each of a line's commands: comments,
// redirections and other programs left out. strange is the first of those that is not
// in others: beside none of ours, a name that was misspelt.
func typed(program, line string) (ours [][]string, strange string) {
	for _, words := range split(line) {
		switch {
		case len(words) == 0:
		case words[0] == program:
			ours = append(ours, words[1:])
		case strange == "" && !slices.Contains(others, words[0]):
			strange = words[0]
		}
	}
	return ours, strange
}

// split reads a line as a shell does, as far as examples go: words, quotes, pipes,
// redirections and comments.
func split(line string) (commands [][]string) {
	var words []string
	var word strings.Builder
	begun, into := false, false
	var quote rune
	end := func() {
		switch {
		case begun && word.String() == "&&":
			commands, words = append(commands, words), nil
		case begun && !into:
			words = append(words, word.String())
		}
		if begun {
			into = false
		}
		word.Reset()
		begun = false
	}
loop:
	for _, r := range strings.TrimSpace(line) {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, begun = r, true
		case r == ' ':
			end()
		case r == '#' && !begun:
			break loop
		case r == '<' || r == '>':
			end()
			into = true
		case r == '|':
			end()
			commands, words = append(commands, words), nil
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	end()
	return append(commands, words)
}
