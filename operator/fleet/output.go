package fleet

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
)

// maxLine is the longest line that is kept back for its end, in bytes; what is
// longer comes in parts. Our choice.
const maxLine = 64 << 10

// Form says how the output of many machines is told apart.
type Form int

const (
	// Prefixed prints each line as it comes, behind its machine's name.
	Prefixed Form = iota
	// Grouped prints a machine's output when it has ended.
	Grouped
	// JSON prints each line as a JSON value.
	JSON
)

// Output is where many machines print.
type Output struct {
	form     Form
	dir      *os.Root // files in place of out and err; nil is none
	mu       sync.Mutex
	out, err io.Writer // guarded by mu: whole lines
}

// NewOutput prints to out and err. With a folder, which is made if there is none,
// the streams of each machine become NAME.stdout and NAME.stderr in it.
func NewOutput(form Form, out, err io.Writer, folder string) (*Output, error) {
	o := &Output{form: form, out: out, err: err}
	if folder == "" {
		return o, nil
	}
	if bad := os.MkdirAll(folder, 0o700); bad != nil {
		return nil, fmt.Errorf("creating %q: %v", folder, bad)
	}
	root, bad := os.OpenRoot(folder)
	if bad != nil {
		return nil, fmt.Errorf("opening %q: %v", folder, bad)
	}
	o.dir = root
	return o, nil
}

// Close gives the folder back.
func (o *Output) Close() {
	if o.dir != nil {
		_ = o.dir.Close()
	}
}

// Streams are those of one machine. One goroutine may write to each.
type Streams struct {
	Out, Err io.Writer // what the program on the machine prints
	Talk     io.Writer // our own words about this machine
	closers  []func() error
}

// Close prints what is left and returns what could not be written.
func (s *Streams) Close() error {
	var first error
	for _, c := range s.closers {
		if err := c(); first == nil {
			first = err
		}
	}
	return first
}

// Open begins a machine's output. name is shown as it is: it was verified.
func (o *Output) Open(name string) (*Streams, error) {
	talk := o.lines(name, "talk")
	s := &Streams{Talk: talk, closers: []func() error{talk.flush}}
	if o.dir != nil {
		return s, o.files(s, name)
	}
	if o.form == Grouped {
		return s, o.group(s, name)
	}
	out, err := o.lines(name, "stdout"), o.lines(name, "stderr")
	s.Out, s.Err = out, err
	s.closers = append(s.closers, out.flush, err.flush)
	return s, nil
}

func (o *Output) lines(name, stream string) *lineWriter {
	return &lineWriter{write: func(line []byte, whole bool) error { return o.line(name, stream, line, whole) }}
}

// files are new, or emptied: a log that holds two runs tells of neither.
func (o *Output) files(s *Streams, name string) error {
	open := func(stream string) (*os.File, error) {
		f, err := o.dir.OpenFile(strings.ReplaceAll(name, string(os.PathSeparator), "_")+"."+stream, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
		if err != nil {
			return nil, fmt.Errorf("writing the log of %q: %v", name, err)
		}
		s.closers = append(s.closers, f.Close)
		return f, nil
	}
	out, err := open("stdout")
	if err != nil {
		return err
	}
	errs, err := open("stderr")
	s.Out, s.Err = out, errs
	return err
}

// group keeps the streams in files without a name until the machine has ended.
func (o *Output) group(s *Streams, name string) error {
	spools := make([]*os.File, 2)
	for i := range spools {
		f, err := os.CreateTemp("", "tucdesk-exec-")
		if err != nil {
			return fmt.Errorf("keeping the output of %q: %v", name, err)
		}
		_ = os.Remove(f.Name()) // where that is not possible it is removed at the end
		spools[i] = f
		s.closers = append(s.closers, func() error { _ = f.Close(); _ = os.Remove(f.Name()); return nil })
	}
	s.Out, s.Err = spools[0], spools[1]
	s.closers = append([]func() error{func() error { return o.printGroup(name, spools) }}, s.closers...)
	return nil
}

func (o *Output) printGroup(name string, spools []*os.File) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, err := fmt.Fprintf(o.out, "== %s\n", name); err != nil {
		return err
	}
	for i, w := range []io.Writer{o.out, o.err} {
		if _, err := spools[i].Seek(0, io.SeekStart); err != nil {
			return err
		}
		lines := &lineWriter{write: func(line []byte, _ bool) error {
			_, err := fmt.Fprintf(w, "%s\n", inert(line))
			return err
		}}
		if _, err := io.Copy(lines, spools[i]); err != nil {
			return err
		}
		if err := lines.flush(); err != nil {
			return err
		}
	}
	return nil
}

// jsonLine is one line of a machine. The names stay.
type jsonLine struct {
	Schema  int     `json:"schemaVersion"`
	Type    string  `json:"type"` // "stdout", "stderr", or "talk" for our own words
	Host    string  `json:"host"`
	Text    *string `json:"text,omitempty"`    // without its end
	Base64  *string `json:"base64,omitempty"`  // in place of text, of bytes that are none
	Partial bool    `json:"partial,omitempty"` // no line end followed
}

func (o *Output) line(name, stream string, line []byte, whole bool) error {
	if o.form == JSON {
		l := jsonLine{Schema: 1, Type: stream, Host: name, Partial: !whole}
		if text := string(line); utf8.ValidString(text) {
			l.Text = &text
		} else {
			text = base64.StdEncoding.EncodeToString(line)
			l.Base64 = &text
		}
		return o.Value(l)
	}
	w := o.out
	if stream != "stdout" {
		w = o.err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	_, err := fmt.Fprintf(w, "%s: %s\n", name, inert(line))
	return err
}

// Value prints a line of JSON.
func (o *Output) Value(v any) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	enc := json.NewEncoder(terminal.JSON(o.out))
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// inert is a line that moves no cursor. Tabs and backslashes stay: the line is read,
// not judged as a command is.
func inert(line []byte) string {
	var b strings.Builder
	for s := string(bytes.TrimSuffix(line, []byte("\r"))); s != ""; {
		r, size := utf8.DecodeRuneInString(s)
		if r == '\t' || r == '\\' {
			b.WriteRune(r)
		} else {
			b.WriteString(terminal.Escape(s[:size]))
		}
		s = s[size:]
	}
	return b.String()
}

// lineWriter cuts what is written into lines.
type lineWriter struct {
	write func(line []byte, whole bool) error
	mu    sync.Mutex
	buf   []byte // guarded by mu
}

// Write passes whole lines on.
func (l *lineWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rest := p
	for {
		at := bytes.IndexByte(rest, '\n')
		if at < 0 {
			break
		}
		line := rest[:at]
		if len(l.buf) > 0 {
			line = append(l.buf, line...)
			l.buf = l.buf[:0]
		}
		if err := l.write(line, true); err != nil {
			return 0, err
		}
		rest = rest[at+1:]
	}
	l.buf = append(l.buf, rest...)
	for len(l.buf) >= maxLine {
		if err := l.write(l.buf[:maxLine], false); err != nil {
			return 0, err
		}
		l.buf = append(l.buf[:0], l.buf[maxLine:]...)
	}
	return len(p), nil
}

// flush passes on what has no line end.
func (l *lineWriter) flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.buf) == 0 {
		return nil
	}
	line := l.buf
	l.buf = nil
	return l.write(line, false)
}

// FormOf is the form that the flags ask for; two at once are refused.
func FormOf(group, asJSON bool, folder string) (Form, error) {
	switch {
	case group && asJSON, group && folder != "", asJSON && folder != "":
		return Prefixed, refusal.New(refusal.BadArgument, "--group, --json and --log-dir are three forms; choose one")
	case group:
		return Grouped, nil
	case asJSON:
		return JSON, nil
	}
	return Prefixed, nil
}
