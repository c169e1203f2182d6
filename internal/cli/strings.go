package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// maxString is the longest string that is read from a file, in bytes; our choice,
// above the longest join token.
const maxString = 128 << 10

// ours begins every string that people carry between our programs.
const ours = "tucdesk-"

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

// Carried is a string that a person was given: arg itself, or what is in the file of
// that name, or on standard input for "-". White space around it does not count.
func (i *IO) Carried(arg string) (string, error) {
	var in io.Reader = i.In
	switch {
	case strings.HasPrefix(arg, ours):
		return strings.TrimSpace(arg), nil
	case arg != "-":
		f, err := os.Open(arg)
		if errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("%q is neither a string that begins with %q nor a file", shortened(arg), ours)
		}
		if err != nil {
			return "", err
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

// shortened keeps a long argument, which may hold half a secret, out of an error.
func shortened(arg string) string {
	const shown = 40
	if len(arg) <= shown {
		return arg
	}
	return arg[:shown/4] + "..."
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
