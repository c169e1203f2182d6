package repotest

import (
	"slices"
	"testing"
)

// The rules are only as good as what finds their breach.

func code(t *testing.T, text string) *source {
	t.Helper()
	f, err := parse("a/a_test.go", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestUsesSeesRenamedImports(t *testing.T) {
	for text, want := range map[string]bool{
		"package a\nimport \"time\"\nfunc f() { time.Sleep(1) }":        true,
		"package a\nimport x \"time\"\nvar f = x.Sleep":                 true,
		"package a\nimport \"time\"\n// time.Sleep(1)\nvar f time.Time": false,
		"package a\nvar time struct{ Sleep int }\nvar f = time.Sleep":   false,
		"package a\nimport x \"time\"\nvar time x.Time\nvar f = x.Now":  false,
	} {
		if got := code(t, text).uses("time", "Sleep"); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	if !code(t, "package a\nvar f = struct{ B bool }{B: true}").names("B") || code(t, "package a // B").names("B") {
		t.Error("names does not tell code from comments")
	}
}

func TestPrintsToStreamsSeesHowItIsWritten(t *testing.T) {
	for line, want := range map[string]int{
		"fmt.Fprintf(io.Out, s)": 1, "fmt.Fprintln(x.y.Err)": 1, "f.Fprint(io.Out)": 0, "out.WriteString(io.Err, s)": 1,
		"fmt.Fprintf(&b, s)": 0, "io.Out.Write(s)": 0, "io.Print(s)": 0, "fmt.Sprint(io.Out)": 0, "fmt.Fprint(o.output, s)": 0,
	} {
		got := code(t, "package a\nimport (\n\"fmt\"\nout \"io\"\n)\nfunc f() { "+line+" }").printsToStreams()
		if len(got) != want {
			t.Errorf("%s: %v", line, got)
		}
	}
	if got := code(t, "package a\nimport f \"fmt\"\nfunc g() { f.Fprint(io.Out) }").printsToStreams(); len(got) != 1 {
		t.Errorf("by another name: %v", got)
	}
}

func TestReachFollowsChains(t *testing.T) {
	direct := map[string][]string{"relay": {"x", "y"}, "y": {"z"}, "z": {"crypto/seal"}}
	if got := reach(direct, "relay", "crypto"); !slices.Equal(got, []string{"relay", "y", "z", "crypto/seal"}) {
		t.Error(got)
	}
	if got := reach(direct, "relay", "cry"); got != nil {
		t.Error("a beginning of a name is not a folder:", got)
	}
}

func TestModuleOfTakesTheLongest(t *testing.T) {
	list := modules(t)
	for path, want := range map[string]string{
		"golang.org/x/net/ipv4": "golang.org/x/net", "golang.org/x/network": "", "github.com/pion/turn/v2": "github.com/pion/turn/v2",
		"github.com/pion/turn/v2/internal/x": "github.com/pion/turn/v2", "github.com/pion/turn": "",
	} {
		if got := moduleOf(list, path); got != want {
			t.Errorf("%s is of %q", path, got)
		}
	}
	if standard("golang.org/x/net") || !standard("net/http") {
		t.Error("standard library not recognised")
	}
}
