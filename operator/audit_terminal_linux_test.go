package operator

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/cli"
)

// A whole log names people and commands, in base64 among others: it is for files and
// pipes.
func TestExportDoesNotPourTheLogOntoATerminal(t *testing.T) {
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer screen.Close()
	pipe, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	defer write.Close()
	export := func(out *os.File, more ...string) (int, string) {
		var talk bytes.Buffer
		args := append([]string{"audit", "export", "--state", t.TempDir()}, more...)
		status := cli.Run(t.Context(), &cli.IO{In: os.Stdin, Out: out, Err: &talk}, Command(), args)
		return status, talk.String()
	}
	if status, talk := export(screen); status != cli.ExitUsage || !strings.Contains(talk, "hint: --out FILE\n") {
		t.Errorf("onto a terminal: status %d, said %q", status, talk)
	}
	// These go on to the account, of which there is none here.
	for _, c := range []struct {
		out  *os.File
		more []string
	}{{write, nil}, {screen, []string{"--out", "x"}}, {screen, []string{"--tiles", "x"}}} {
		if status, talk := export(c.out, c.more...); status == cli.ExitUsage || strings.Contains(talk, "terminal") {
			t.Errorf("%q: status %d, said %q", c.more, status, talk)
		}
	}
}
