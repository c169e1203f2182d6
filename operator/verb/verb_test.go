package verb

import (
	"bytes"
	"errors"
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
