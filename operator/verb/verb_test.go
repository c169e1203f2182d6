package verb

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/operator/teamtest"
)

func TestWithoutATerminalTheAnswerIsNo(t *testing.T) {
	var talk bytes.Buffer
	no := errors.New("no")
	if err := Confirm(t.Context(), &cli.IO{In: teamtest.Pipe(t, "y\n"), Err: &talk}, "Sure?", no); err != no || talk.Len() > 0 {
		t.Errorf("agreed, or asked where nobody is: %v, %q", err, talk.String())
	}
}

func TestSplitList(t *testing.T) {
	for in, want := range map[string]string{"": "", " , ": "", "a": "a", " a ,b,, c": "a|b|c"} {
		if got := SplitList(in); strings.Join(got, "|") != want || got == nil {
			t.Errorf("%q: %q", in, got)
		}
	}
}

// A script gets no line of progress; a person's terminal is left as it was.
func TestProgressIsForPeople(t *testing.T) {
	var out bytes.Buffer
	pipe := NewProgress(&cli.IO{Err: &out}, true)
	if _, err := io.Copy(io.Discard, pipe.Reader(t.Context(), strings.NewReader("log"), "verified", 3)); err != nil {
		t.Fatal(err)
	}
	pipe.End()
	if out.Len() != 0 {
		t.Errorf("a script reads %q", out.String())
	}
	for _, size := range []int64{0, 3} {
		out.Reset()
		p := &Progress{to: &out}
		if _, err := io.Copy(io.Discard, p.Reader(t.Context(), strings.NewReader("log"), "verified", size)); err != nil {
			t.Fatal(err)
		}
		p.End()
		p.End()
		lines := strings.Split(out.String(), "\r")
		if want := map[int64]string{0: "verified 0.0 MB", 3: "verified 100% of 0.0 MB"}[size]; strings.TrimSpace(lines[1]) != want {
			t.Errorf("%q, not %q", lines, want)
		}
		if last := lines[len(lines)-2]; strings.TrimSpace(last) != "" || len(last) < len(lines[1]) || strings.Contains(out.String(), "\n") {
			t.Errorf("left on the terminal: %q", lines)
		}
	}
}
