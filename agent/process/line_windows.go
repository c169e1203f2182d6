package process

import (
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/sys/windows"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Limits of this system.
const (
	maxLine      = 32_767 // UTF-16 units of a command line, the final zero among them
	maxShellLine = 8_191  // of what cmd.exe reads
)

// LoginShell returns what runs a's shell, or, if lines is not empty, the shell with the
// first of them. cmd.exe is told where the line ends by its /s: it takes the first and
// the last quote away and reads what is between as it stands. /d keeps out what the
// registry has it run first, as "sh -c" reads no profile.
func LoginShell(a Account, lines []string) Spec {
	spec := Spec{File: File{Path: a.Shell}, Argv: []string{a.Shell}}
	if len(lines) > 0 {
		spec.Argv = append(spec.Argv, shellFlags, lines[0])
	}
	return spec
}

const shellFlags = "/d /s /c"

// isShell reports a Spec of LoginShell: whatever else is run was found by Resolve, and
// has a number.
func (s Spec) isShell() bool { return s.File.Inode == 0 }

// commandLine is what the program gets. Nothing is cut off or changed silently: what
// this system has no form for is refused with BadArgument.
func commandLine(spec Spec) (*uint16, error) {
	line := windows.ComposeCommandLine(spec.Argv)
	if spec.isShell() && len(spec.Argv) > 1 {
		line = windows.EscapeArg(spec.Argv[0]) + " " + shellFlags + ` "` + spec.Argv[2] + `"`
		if strings.ContainsAny(line, "\r\n") {
			return nil, refusal.New(refusal.BadArgument, "cmd.exe reads one line only")
		}
	}
	if strings.ContainsRune(spec.Argv[0], '"') { // there is no way to write one there
		return nil, refusal.New(refusal.BadArgument, "the program's name holds a quote")
	}
	units, err := text(line)
	if err != nil {
		return nil, err
	}
	if len(units) > maxLine || spec.isShell() && len(units) > maxShellLine {
		return nil, refusal.New(refusal.BadArgument, "the arguments are longer than this host takes")
	}
	return &units[0], nil
}

// text is s as this system takes it, with a final zero. What is not UTF-8 has no form.
func text(s string) ([]uint16, error) {
	if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		return nil, refusal.New(refusal.BadArgument, "Windows takes arguments, names and folders that are UTF-8 only")
	}
	return append(utf16.Encode([]rune(s)), 0), nil
}

// environmentBlock is env as CreateProcess wants it: in the order of the names, each
// with a zero, and one more zero.
func environmentBlock(env []string) (*uint16, error) {
	env = slices.Clone(env)
	slices.SortStableFunc(env, func(a, b string) int {
		return strings.Compare(strings.ToUpper(nameOf(a)), strings.ToUpper(nameOf(b)))
	})
	var block []uint16
	for _, entry := range env {
		units, err := text(entry)
		if err != nil {
			return nil, err
		}
		block = append(block, units...)
	}
	if len(block) == 0 {
		block = append(block, 0)
	}
	block = append(block, 0)
	return &block[0], nil
}

// nameOf is the name in "NAME=value".
func nameOf(entry string) string {
	name, _, _ := strings.Cut(entry, "=")
	return name
}
