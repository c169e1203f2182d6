package verb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/policy"
)

// Exists says that a file is in the way of a new one.
func Exists(name string) error {
	return &cli.Error{Err: fmt.Errorf("writing %q: %w", name, fs.ErrExist), Hints: []string{"choose another file, or remove that one"}}
}

// NotThere is err, of opening the file that a person named, with what to do where
// there is no such file.
func NotThere(err error, name string, hints ...string) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return &cli.Error{Err: fmt.Errorf("opening %q: %w", name, fs.ErrNotExist), Hints: hints}
}

// Confirm asks a yes-or-no question at the terminal; nil is yes. Any other answer,
// and none where there is no terminal, is otherwise. Ctrl-C is the error of ctx; the
// reader is left behind then, since a read of a terminal cannot be called back, and
// ends with the process.
func Confirm(ctx context.Context, io *cli.IO, question string, otherwise error) error {
	if !terminal.IsTerminal(io.In) {
		return otherwise
	}
	io.Ask("%s [y/N] ", question)
	answer := make(chan string, 1)
	go func() {
		var word string
		_, _ = fmt.Fscanln(io.In, &word)
		answer <- word
	}()
	select {
	case word := <-answer:
		if strings.EqualFold(word, "y") || strings.EqualFold(word, "yes") {
			return nil
		}
		return otherwise
	case <-ctx.Done():
		io.Say("")
		return ctx.Err()
	}
}

// ReadPublicFile reads a file of at most limit bytes that holds no secret, "-" being
// standard input. The hints are for a file that is not there. Refusal: TooLarge.
func ReadPublicFile(tio *cli.IO, name string, limit int64, hints ...string) ([]byte, error) {
	f := tio.In
	if name != "-" {
		var err error
		if f, err = os.Open(name); err != nil {
			return nil, NotThere(err, name, hints...)
		}
		defer f.Close()
	}
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = refusal.New(refusal.TooLarge, "%q has more than %d bytes", name, limit)
	}
	return text, err
}

// Tags reads what --tags was given; [] for none. What cannot be tags is refused before
// anything is asked or made.
func Tags(text string) ([]string, error) {
	tags := SplitList(text)
	for i, tag := range tags {
		if policy.ValidTag(tag) && !slices.Contains(tags[:i], tag) {
			continue
		}
		return nil, &cli.Error{Err: refusal.New(refusal.BadName, "--tags: %q: a tag is 1 to 63 of a-z, 0-9 and . _ = : -, the first a letter or digit, and given once", tag),
			Hints: []string{"several are separated by commas: --tags prod,env=test"}, Exit: cli.ExitUsage}
	}
	return tags, nil
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
