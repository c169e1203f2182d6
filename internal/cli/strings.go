package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
)

// maxString is the longest string that is read from a file, in bytes; our choice,
// above the longest join token.
const maxString = 128 << 10

// carried says of each of these strings what it is for. The longer of two
// beginnings stands first.
var carried = []struct{ prefix, what string }{
	{"tucdesk-setup:", "a setup string; it founds a team: tucdesk team init"},
	{"tucdesk-team:", "a team string; it is for a new member: tucdesk login"},
	{"tucdesk-join:", "a join token; it is for a new machine: tucdesk-agent join"},
	{"tucdesk-operator-pub:", "an operator's key; it is for: tucdesk operator add EMAIL KEY"},
	{"tucdesk-owner-pub:", "an owner's key; it is for: tucdesk owner add, and tucdesk team init --owner"},
	{"tucdesk-recovery:", "a recovery key, a secret; it belongs into a file for --recovery-key-file"},
}

// isCarried tells a string from the name of a file, such as tucdesk-token.txt.
func isCarried(text string) bool {
	return slices.ContainsFunc(carried, func(c struct{ prefix, what string }) bool { return strings.HasPrefix(text, c.prefix) })
}

// Carried is a string that a person was given: arg itself, or what is in the file of
// that name, or on standard input for "-". White space around it does not count. No
// error shows arg unless it is the name of a file: a secret that lost its first
// letter looks like one.
func (i *IO) Carried(arg string) (string, error) {
	var in io.Reader = i.In
	switch text := strings.TrimSpace(arg); {
	case isCarried(text):
		return text, nil
	case arg != "-":
		f, err := os.Open(arg)
		if err != nil {
			return "", notOpened(arg, err)
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxString+1))
	if err != nil {
		return "", fmt.Errorf("reading %q: %v", arg, err)
	}
	if len(text) > maxString {
		return "", fmt.Errorf("reading %q: more than %d bytes", arg, maxString)
	}
	return strings.TrimSpace(string(text)), nil
}

// notOpened says why arg is no file. The error of the system's own names arg in
// full, so nothing of it is kept but the reason.
func notOpened(arg string, err error) error {
	var why syscall.Errno
	switch {
	case errors.Is(err, fs.ErrNotExist) && namesFile(arg):
		return fmt.Errorf("there is no file %q", arg)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENAMETOOLONG):
		return fmt.Errorf("there is no file %q, and no string of ours begins like that", shortened(arg))
	case errors.As(err, &why):
		return fmt.Errorf("opening the file %q: %v", shortened(arg), why)
	}
	return fmt.Errorf("opening the file %q: it cannot be opened", shortened(arg))
}

// maxFileName is the longest argument that is shown as the name of a file, in bytes;
// our choice.
const maxFileName = 64

// namesFile reports an argument that is a name such as setup.txt and can be no part of
// a secret: those that people are given are one long word without a dot, of 43 letters
// and more, behind a short word and a colon.
func namesFile(arg string) bool {
	if len(arg) > maxFileName || strings.ContainsAny(arg, ":\x00") {
		return false
	}
	for _, part := range strings.FieldsFunc(arg, func(r rune) bool { return r == '.' || r == '/' || r == '\\' }) {
		if len(part) > maxNamePart {
			return false
		}
	}
	return strings.Contains(arg, ".")
}

// maxNamePart is how long a word between dots and slashes of such a name may be, in
// bytes; our choice, half of what the shortest secret has.
const maxNamePart = 20

// shortened shows of an argument that may be a secret as much as tells a person
// which one it was: a quarter, and never more than ten bytes.
func shortened(arg string) string {
	const shown = 10
	if arg == "" {
		return ""
	}
	return arg[:min(shown, len(arg)/4)] + "..."
}

// NotCarried is err, by which text is not the string that was wanted, with what to
// do about it: that one begins with prefix, and source says where it comes from.
// Never is text itself shown: it may be a secret.
func NotCarried(err error, text, prefix, source string) error {
	e := &Error{Err: err, Hints: []string{fmt.Sprintf("wanted is a string that begins with %s and is %s", prefix, source)}, Exit: ExitFailed}
	for _, c := range carried {
		if c.prefix != prefix && strings.HasPrefix(text, c.prefix) {
			e.Hints = append(e.Hints, "what was given is "+c.what)
			break
		}
	}
	return e
}
