package netlab

import (
	"bufio"
	"fmt"
	"testing"
)

func TestASuspendedHostAnswersLater(t *testing.T) {
	t.Parallel()
	inet := New(t).Internet()
	a, b := inet.Host("a"), inet.Host("b")
	echo := func(h *Host) func() {
		cmd := h.Command(t.Context(), "cat")
		in, out := must(cmd.StdinPipe()), bufio.NewReader(must(cmd.StdoutPipe()))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
		return func() {
			fmt.Fprintln(in, "hello")
			if s, err := out.ReadString('\n'); err != nil || s != "hello\n" {
				t.Errorf("%q, %v", s, err)
			}
		}
	}
	echoA, echoB := echo(a), echo(b)
	echoA()
	if n := a.Suspend(); n != 1 {
		t.Errorf("%d processes were stopped, want 1", n)
	}
	echoB()
	a.Resume()
	echoA()
}
