package cli

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"syscall"
	"testing"
	"unsafe"
)

const foreign = "# \u009b2J\u202e\r\n\tid = 'a\\b'\n"

// What a colleague wrote is looked at on a terminal, and published from a file.
func TestJ1FilesOfOthersAreInertOnATerminalAndWholeElsewhere(t *testing.T) {
	var file bytes.Buffer
	if err := (&IO{Out: &file}).PrintText([]byte(foreign)); err != nil || file.String() != foreign {
		t.Errorf("to a file: %q, %v", &file, err)
	}
	person, program := pseudoTerminal(t)
	if err := (&IO{Out: program}).PrintText([]byte(foreign)); err != nil {
		t.Fatal(err)
	}
	seen := bufio.NewReader(person)
	for _, want := range []string{`# \u009b2J\u202e`, `    id = 'a\b'`} {
		if got, err := seen.ReadString('\n'); err != nil || got != want+"\r\n" {
			t.Errorf("to a terminal: %q, %v; want %q", got, err, want)
		}
	}
}

// pseudoTerminal opens the person's end and the program's.
func pseudoTerminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { _ = person.Close() })
	var number, locked int32
	for call, arg := range map[uintptr]*int32{syscall.TIOCSPTLCK: &locked, syscall.TIOCGPTN: &number} {
		if _, _, bad := syscall.Syscall(syscall.SYS_IOCTL, person.Fd(), call, uintptr(unsafe.Pointer(arg))); bad != 0 {
			t.Fatal(bad)
		}
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return person, program
}
