package terminal

import (
	"fmt"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// pair opens a new pseudo-terminal: the person's end and the program's.
func pair(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { _ = person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return person, program
}

// A whole answer may be there before anybody reads it: pasted, or typed while the
// machine was busy. Its Return has to end the line all the same.
func TestAnswerBeforeTheReader(t *testing.T) {
	person, program := pair(t)
	if err := hush(int(program.Fd())); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(person, "correct horse\r"); err != nil {
		t.Fatal(err)
	}
	got, err := term.ReadPassword(int(program.Fd()))
	if err != nil || string(got) != "correct horse" {
		t.Fatalf("read %q, %v", got, err)
	}
	if _, err := io.WriteString(program, "."); err != nil {
		t.Fatal(err)
	}
	shown := make([]byte, 64)
	n, err := person.Read(shown)
	if err != nil || string(shown[:n]) != "." {
		t.Errorf("the terminal shows %q, %v", shown[:n], err)
	}
}
