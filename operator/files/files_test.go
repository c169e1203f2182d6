package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/filecopy"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPlacesAreReadAsScpReadsThem(t *testing.T) {
	for arg, want := range map[string]place{
		"web:":             {host: "web"},
		"web:a:b":          {host: "web", path: "a:b"},
		"ann@web:/srv":     {host: "web", user: "ann", path: "/srv"},
		"a@b@web:x":        {host: "web", user: "a@b", path: "x"},
		"web.tucdesk:x":    {host: "web", path: "x"},
		"@agent@web:x":     {host: "web", path: "x"},
		"@web:x":           {host: "web", path: "x"},
		"ann@web.tucdesk:": {host: "web", user: "ann"},
		"web:a@b":          {host: "web", path: "a@b"},
		"./a:b":            {path: "./a:b"},
		"/x/y:z":           {path: "/x/y:z"},
		"file":             {path: "file"},
		"-":                {path: "-"},
		"web:~/x":          {host: "web", path: "~/x"},
		"web:/var/*.log":   {host: "web", path: "/var/*.log"},
		"web:dir with sp":  {host: "web", path: "dir with sp"},
	} {
		if got, err := parsePlace(arg); err != nil || got != want {
			t.Errorf("%q is %+v, %v; want %+v", arg, got, err, want)
		}
	}
	for _, arg := range []string{"", ":x", "ann@:x"} {
		if got, err := parsePlace(arg); refusal.Of(err) != refusal.BadArgument {
			t.Errorf("%q is %+v, %v", arg, got, err)
		}
	}
}

// Whoever forgets the colon means the machine, unless a file has that name.
func TestForgottenColonOfAMachineIsNamed(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("db", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	known := func(string) []string { return []string{"web", "web-1", "deploy@web", "db"} }
	for name, want := range map[string]string{"web": "did you mean: web:", "deploy@web": "did you mean: deploy@web:", "we": "", "db": "", "none": ""} {
		if got := strings.Join(withoutColon([]place{{path: "backup.tar"}, {path: name}}, known), "\n"); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func FuzzParsePlace(f *testing.F) {
	for _, s := range []string{"web:x", "a@b:c", "./a:b", "-", "@:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, arg string) {
		p, err := parsePlace(arg)
		if err != nil {
			return
		}
		again := p.path
		if p.remote() {
			again = p.host + ":" + p.path
		}
		if head, _, _ := strings.Cut(arg, ":"); p.remote() && (strings.Contains(head, "@") || strings.HasSuffix(head, ".tucdesk")) {
			again, arg = p.host+":"+p.path, p.host+arg[len(head):] // the user and the suffix are cut off
		}
		if again != arg {
			t.Errorf("%q becomes %q", arg, again)
		}
	})
}

func TestWhatCannotBeCopiedIsSaidBeforeAnythingIsOpened(t *testing.T) {
	for _, line := range []string{"a b", "- b", "web:/ x", "web:. x", "web:.. x", "web:~ x", "web: x", "web:a/.. x", "-r - web:x", "-r web:x -", "web:x web:y -", "- a web:x", ":a b", "web:x"} {
		var err strings.Builder
		code := cli.Run(context.Background(), &cli.IO{In: os.Stdin, Out: io.Discard, Err: &err}, &cli.Command{Use: "tucdesk", Sub: []*cli.Command{Command()}}, append([]string{"cp", "--state", t.TempDir()}, strings.Fields(line)...))
		if code != cli.ExitUsage {
			t.Errorf("cp %s exits %d: %s", line, code, err.String())
		}
	}
}

func TestNeighboursOfOneOriginShareASession(t *testing.T) {
	list := groups([]place{{host: "a", path: "1"}, {host: "a", path: "2"}, {host: "a", user: "u", path: "3"}, {path: "4"}, {host: "a", path: "5"}})
	if len(list) != 4 || len(list[0].paths) != 2 || list[3].paths[0] != "5" {
		t.Errorf("%+v", list)
	}
}

// The bar is one line, whatever a file is called (attack J1).
func TestJ1TheBarShowsNothingThatATerminalObeys(t *testing.T) {
	var p filecopy.Progress
	p.Bytes.Store(3 << 20)
	p.TotalBytes.Store(10 << 20)
	p.TotalFiles.Store(3)
	p.Note("evil\x1b]52;c;aGk=\x07\r\n\u202ename")
	now := time.Now()
	b := &bar{progress: &p, marks: []marked{{now.Add(-time.Second), 1 << 20}, {now, 3 << 20}}}
	line := b.line(200)
	if want := " 30% 3.0 MiB  2.0 MiB/s  0:04 left  0 of 3 files  evil"; !strings.HasPrefix(line, want) {
		t.Errorf("%q, want %q and more", line, want)
	}
	for _, r := range line {
		if r < ' ' || r == 0x7f || r == '\u202e' {
			t.Errorf("%q has %q", line, r)
		}
	}
	if short := b.line(20); utf8.RuneCountInString(short) > 20 {
		t.Errorf("%q is longer than 20", short)
	}
}

func TestNumbersAsPeopleReadThem(t *testing.T) {
	for n, want := range map[float64]string{0: "0 B", 999: "999 B", 1000: "1.0 KiB", 1 << 20: "1.0 MiB", 1 << 40: "1.0 TiB", 1 << 53: "8192.0 TiB"} {
		if got := amount(n); got != want {
			t.Errorf("%v is %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "0:00", 61 * time.Second: "1:01", 3661 * time.Second: "1:01:01"} {
		if got := clock(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

// "no such file" alone does not say whose: this machine's, or the other's.
func TestWhatIsNotThereIsNamedWithItsMachine(t *testing.T) {
	for want, at := range map[string]place{"web:a/b": {host: "web"}, "ann@web:a/b": {host: "web", user: "ann"}, "a/b on this machine": {}} {
		c := copying{from: at}
		if got := c.side(filecopy.Problem{Name: "a/b", Code: refusal.NotFound}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if got := c.side(filecopy.Problem{Name: "a/b", Code: refusal.NoSpace}); got != "a/b" { // of either
			t.Errorf("no space is at %q", got)
		}
	}
}

func TestAStoppedCopySaysThatItGoesOn(t *testing.T) {
	var hint *cli.Error
	err := (&copying{}).tell(fmt.Errorf("on the way: %w", context.Canceled))
	if !errors.Is(err, context.Canceled) || !errors.As(err, &hint) || !strings.Contains(strings.Join(hint.Hints, " "), "goes on where it stopped") {
		t.Errorf("%v", err)
	}
}
