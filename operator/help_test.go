package operator

import (
	"flag"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/cli"
)

// eachVerb calls f for every command that people run.
func eachVerb(c *cli.Command, path []string, f func(path []string, c *cli.Command)) {
	name, _, _ := strings.Cut(c.Use, " ")
	path = append(path[:len(path):len(path)], name)
	if c.Run != nil && !c.Hidden {
		f(path, c)
	}
	for _, sub := range c.Sub {
		eachVerb(sub, path, f)
	}
}

// TestEveryVerbHelps: each shows what it is good for by lines that can be typed, and
// says what to do after a wrong command line.
func TestEveryVerbHelps(t *testing.T) {
	verbs := 0
	eachVerb(Command(), nil, func(path []string, c *cli.Command) {
		verbs++
		name := strings.Join(path, " ")
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short help %q", name, c.Short)
		}
		if !strings.Contains(c.Example, "tucdesk ") || !strings.Contains(c.Example, path[len(path)-1]) {
			t.Errorf("%s: its examples are %q", name, c.Example)
		}
		if c.Flags != nil {
			var set flag.FlagSet
			c.Flags(&set)
			set.VisitAll(func(f *flag.Flag) {
				if strings.HasSuffix(f.Usage, ".") {
					t.Errorf("%s: --%s says %q", name, f.Name, f.Usage)
				}
			})
		}
		args := path[1:]
		if status, _, talk := tucdesk(t, append(args[:len(args):len(args)], "--no-such-flag")...); status != cli.ExitUsage || !strings.Contains(talk, "hint: "+name+" --help\n") {
			t.Errorf("%s --no-such-flag: status %d, said %q", name, status, talk)
		}
		if c.MinArgs == 0 {
			return
		}
		if status, out, talk := tucdesk(t, args...); status != cli.ExitUsage || out != "" || !strings.Contains(talk, "hint: tucdesk "+strings.Join(args[:len(args)-1], " ")) || !strings.Contains(talk, "hint: "+name+" --help\n") {
			t.Errorf("%s without arguments: status %d, said %q", name, status, talk)
		}
	})
	if verbs < 40 {
		t.Errorf("only %d verbs were seen", verbs)
	}
}

// TestStatusesOfTheirOwnAreDocumented: who writes a script must find in the help what a
// verb's exit status says beyond those of every verb.
func TestStatusesOfTheirOwnAreDocumented(t *testing.T) {
	for verb, words := range map[string][]string{
		"ping": {"0", "1", "255"}, "netcheck": {"255"}, "status": {"255"}, "whoami": {"250"}, "audit verify": {"0", "1", "3", "4"}, "policy check": {"0"}, "policy test": {"1"},
		"policy explain": {"0"}, "exec": {"255", "253", "252", "251", "130"}, "cp": {"1"}, "": {"255", "253", "252", "251", "250", "130", "2", "1"},
	} {
		_, out, _ := tucdesk(t, append(strings.Fields(verb), "--help")...)
		text, _, _ := strings.Cut(out, "Usage:")
		for _, w := range words {
			if !strings.Contains(strings.NewReplacer(",", " ", ";", " ", ".", " ", "(", " ", ")", " ", "\n", " ").Replace(text)+" ", " "+w+" ") {
				t.Errorf("the help of %q does not name status %s:\n%s", verb, w, text)
			}
		}
	}
}
