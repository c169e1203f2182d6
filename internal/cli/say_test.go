package cli

import (
	"bytes"
	"errors"
	"testing"
)

type spoken string

func (s spoken) String() string { return string(s) }

// No text that a hostile machine sent reaches the terminal by way of a call that forgot
// to escape it, and what was escaped is not escaped twice.
func TestJ1TalkCannotSpeakToTheTerminal(t *testing.T) {
	const bad, inert = "a\x1b]52;c;x\a\nb", `a\x1b]52;c;x\x07\nb`
	for _, arg := range []any{bad, []byte(bad), errors.New(bad), spoken(bad), inert} {
		var talk bytes.Buffer
		(&IO{Err: &talk}).Say("one\n%v %d", arg, 7)
		if want := "one\n" + inert + " 7\n"; talk.String() != want {
			t.Errorf("%T: said %q, want %q", arg, &talk, want)
		}
	}
	var talk bytes.Buffer
	(&IO{Err: &talk}).Say("%s %v", `C:\new\\x`, errors.New("\\\x1b"))
	if want := `C:\new\\x \\x1b` + "\n"; talk.String() != want {
		t.Errorf("said %q, want %q", &talk, want)
	}
}
