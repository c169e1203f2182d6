package terminal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

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

// again opens the program's end once more, as each question does.
func again(t *testing.T, program *os.File) *os.File {
	t.Helper()
	f, err := os.OpenFile(program.Name(), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// types types a line and waits until the program could read it.
func types(t *testing.T, person, program *os.File, line string) {
	t.Helper()
	if _, err := io.WriteString(person, line+"\r"); err != nil {
		t.Fatal(err)
	}
	eventually(t, fmt.Sprintf("%q to arrive", line), func() bool { return waiting(t, program) > 0 })
}

// eventually waits for something that other threads or the system do, at once where they
// have nothing else to do.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); {
		if time.Now().After(end) {
			t.Fatalf("waited for %s for a minute", what)
		}
		<-time.After(time.Millisecond)
	}
}

// waiting is how many bytes were typed and not read.
func waiting(t *testing.T, program *os.File) int {
	t.Helper()
	n, err := unix.IoctlGetInt(int(program.Fd()), unix.TIOCINQ)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Keys take seconds to unlock. Who types the passphrase again meanwhile must not see
// it, and it must be neither the next answer nor a command of the shell behind.
func TestPassphraseTypedTooEarlyIsNeitherShownNorKept(t *testing.T) {
	person, program := pair(t)
	before, err := unix.IoctlGetTermios(int(program.Fd()), getMode)
	if err != nil {
		t.Fatal(err)
	}
	end := quiet(t.Context(), again(t, program))
	var shown strings.Builder
	for _, right := range []string{"the first answer", "the second answer"} {
		types(t, person, program, "typed too early")
		answered := make(chan string, 1)
		go func() {
			text, err := ask(t.Context(), again(t, program), again(t, program), "Passphrase: ")
			answered <- fmt.Sprintf("%s %v", text, err)
		}()
		shown.WriteString(until(t, person, "Passphrase: "))
		if _, err := io.WriteString(person, right+"\r"); err != nil {
			t.Fatal(err)
		}
		shown.WriteString(until(t, person, "\n"))
		if got := <-answered; got != right+" <nil>" {
			t.Errorf("read %q, want %q", got, right)
		}
	}
	types(t, person, program, "typed while it was unlocked")
	end()
	end()
	after, err := unix.IoctlGetTermios(int(program.Fd()), getMode)
	if err != nil || *after != *before {
		t.Errorf("the terminal is not as it was: %+v, %v", after, err)
	}
	if n := waiting(t, program); n != 0 {
		t.Errorf("%d bytes are left to the shell", n)
	}
	if _, err := io.WriteString(program, "."); err != nil {
		t.Fatal(err)
	}
	shown.WriteString(until(t, person, "."))
	if s := shown.String(); strings.Contains(s, "answer") || strings.Contains(s, "typed") {
		t.Errorf("the terminal shows %q", s)
	}
}

// until reads what the terminal shows up to end.
func until(t *testing.T, person *os.File, end string) string {
	t.Helper()
	var shown []byte
	for b := make([]byte, 1); !strings.HasSuffix(string(shown), end); {
		if _, err := person.Read(b); err != nil {
			t.Fatal(err)
		}
		shown = append(shown, b...)
	}
	return string(shown)
}

// After Ctrl-C the shell's prompt must not stand behind the question.
func TestACancelledQuestionEndsItsLine(t *testing.T) {
	person, program := pair(t)
	ctx, cancel := context.WithCancel(t.Context())
	in := again(t, program)
	asked := make(chan error, 1)
	go func() {
		_, err := ask(ctx, in, again(t, program), "Passphrase: ")
		asked <- err
	}()
	until(t, person, "Passphrase: ")
	cancel()
	until(t, person, "\n")
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Errorf("it returns %v", err)
	}
	if _, err := io.WriteString(person, "\r"); err != nil { // lets the reader go
		t.Fatal(err)
	}
	eventually(t, "the reader to go", func() bool {
		_, err := in.Stat()
		return errors.Is(err, os.ErrClosed)
	})
}

// Ctrl-C while a key is unlocked comes before the next question: nobody is asked, and no
// reader that comes late leaves the terminal without an echo.
func TestNobodyIsAskedAfterTheEnd(t *testing.T) {
	_, program := pair(t)
	before, err := unix.IoctlGetTermios(int(program.Fd()), getMode)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	in := again(t, program)
	if _, err := ask(ctx, in, again(t, program), "Passphrase: "); !errors.Is(err, context.Canceled) {
		t.Errorf("it returns %v", err)
	}
	if _, err := in.Stat(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("somebody reads the terminal: %v", err)
	}
	if after, err := unix.IoctlGetTermios(int(program.Fd()), getMode); err != nil || *after != *before {
		t.Errorf("the terminal is not as it was: %+v, %v", after, err)
	}
}
