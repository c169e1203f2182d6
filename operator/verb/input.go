package verb

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
)

// Exists says that a file is in the way of a new one.
func Exists(name string) error {
	return &cli.Error{Err: fmt.Errorf("writing %q: %w", name, fs.ErrExist), Hints: []string{"choose another file, or remove that one"}}
}

// Confirm asks a yes-or-no question at the terminal. Without one, and after
// Ctrl-C, the answer is no; the reader is left behind then, since a read of a
// terminal cannot be called back, and ends with the process.
func Confirm(ctx context.Context, io *cli.IO, question string) bool {
	if !terminal.IsTerminal(io.In) {
		return false
	}
	fmt.Fprintf(io.Err, "%s [y/N] ", question)
	answer := make(chan string, 1)
	go func() {
		var word string
		_, _ = fmt.Fscanln(io.In, &word)
		answer <- word
	}()
	select {
	case word := <-answer:
		return strings.EqualFold(word, "y") || strings.EqualFold(word, "yes")
	case <-ctx.Done():
		fmt.Fprintln(io.Err)
		return false
	}
}

// ReadPublicFile reads a file that holds no secret, "-" being standard input.
func ReadPublicFile(io *cli.IO, name string, limit int64) ([]byte, error) {
	f := io.In
	if name != "-" {
		var err error
		if f, err = os.Open(name); err != nil {
			return nil, err
		}
		defer f.Close()
	}
	return readLimited(f, limit)
}

// SplitList reads a comma-separated list; [] for none.
func SplitList(s string) []string {
	list := []string{}
	for _, part := range strings.Split(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

// maxArgument is the longest string that "-" reads from standard input.
const maxArgument = 64 << 10

// StringOrStdin is arg, or standard input for "-".
func StringOrStdin(io *cli.IO, arg string) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	text, err := readLimited(io.In, maxArgument)
	return strings.TrimSpace(string(text)), err
}

func readLimited(r io.Reader, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = refusal.New(refusal.TooLarge, "more than %d bytes", limit)
	}
	return text, err
}
