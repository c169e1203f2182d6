package remote

import (
	"bytes"
	"testing"

	"github.com/tucdesk/tucdesk/internal/cli"
)

// A raw terminal gets a line of its own that begins and ends at the left margin;
// a script gets the usual form, and nothing ever goes to standard output.
func TestWarningsOfARunningSessionStayApartFromItsOutput(t *testing.T) {
	for raw, want := range map[bool]string{true: "\r\ntucdesk: soon\r\n", false: "warning: soon\n"} {
		var out, err bytes.Buffer
		p := &player{io: &cli.IO{Out: &out, Err: &err}, raw: raw}
		p.warn("soon")
		if err.String() != want || out.Len() != 0 {
			t.Errorf("raw %v: %q, and %q on standard output", raw, err.String(), out.String())
		}
	}
}
