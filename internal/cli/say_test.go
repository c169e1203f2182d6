package cli

import (
	"bytes"
	"errors"
	"testing"
)

type spoken string

func (s spoken) String() string { return string(s) }

// word is a text by another name, as are states and codes of the wire.
type word string

// No text that a hostile machine sent reaches the terminal by way of a call that forgot
// to escape it, and what was escaped is not escaped twice.
func TestJ1TalkCannotSpeakToTheTerminal(t *testing.T) {
	const bad, inert = "a\x1b]52;c;x\a\nb", `a\x1b]52;c;x\x07\nb`
	for _, arg := range []any{bad, []byte(bad), errors.New(bad), spoken(bad), word(bad), inert} {
		var talk, answer bytes.Buffer
		tio := &IO{Err: &talk, Out: &answer}
		tio.Say("one\n%v %d", arg, 7)
		if err := tio.Print("one\n%v %d", arg, 7); err != nil {
			t.Error(err)
		}
		tio.Ask("%v?", arg)
		want := "one\n" + inert + " 7\n"
		if talk.String() != want+inert+"?" || answer.String() != want {
			t.Errorf("%T: said %q, printed %q, want %q", arg, &talk, &answer, want)
		}
	}
	var list bytes.Buffer
	(&IO{Err: &list}).Say("%v %v %v %g %v", []string{bad}, struct{ A, B any }{bad, 7}, nil, 1.5, true)
	if want := "[" + inert + "] {" + inert + " 7} <nil> 1.5 true\n"; list.String() != want {
		t.Errorf("said %q, want %q", &list, want)
	}
	var talk bytes.Buffer
	(&IO{Err: &talk}).Say("%s %v", `C:\new\\x`, errors.New("\\\x1b"))
	if want := `C:\new\\x \\x1b` + "\n"; talk.String() != want {
		t.Errorf("said %q, want %q", &talk, want)
	}
}
