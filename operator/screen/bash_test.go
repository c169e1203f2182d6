//go:build linux

package screen

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// typist is a person at a real bash over a pseudo-terminal; what bash writes
// arrives late.
type typist struct {
	*testing.T
	s    *Screen
	in   io.Writer
	mu   sync.Mutex
	got  *reference
	want *reference
}

const lag = 60 * time.Millisecond

func newTypist(t *testing.T) *typist {
	for _, name := range []string{"bash", "script"} {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("there is no %s", name)
			}
			t.Skipf("there is no %s: apt-get install bash bsdutils", name)
		}
	}
	// script(1) gives it a pseudo-terminal.
	c := exec.Command("script", "-qec", "stty cols 60 rows 10; exec bash --norc --noprofile -i", os.DevNull)
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "TERM=xterm-256color", "PS1=\\[\\e[32m\\]here\\[\\e[m\\]$ ", "LC_ALL=C.UTF-8", "HISTFILE=", "SHELL=/bin/sh"}
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	p := &typist{T: t, in: in, got: newReference(60, 10), want: newReference(60, 10)}
	p.s = New(Config{Out: p.got, Columns: 60, Rows: 10, Mode: Always, RTT: func() time.Duration { return lag }})
	var reading, showing sync.WaitGroup
	late := make(chan delayed, 1000)
	reading.Go(func() { p.read(out, late) })
	showing.Go(func() { p.show(late) })
	t.Cleanup(func() {
		_ = in.Close()
		_ = c.Process.Kill() // the shell then has no terminal any more
		reading.Wait()
		showing.Wait()
		_ = c.Wait()
	})
	return p
}

type delayed struct {
	at  time.Time
	out []byte
}

func (p *typist) read(out io.Reader, late chan<- delayed) {
	defer close(late)
	buf := make([]byte, 4096)
	for {
		n, err := out.Read(buf)
		if err != nil {
			return
		}
		late <- delayed{time.Now().Add(lag), bytes.Clone(buf[:n])}
	}
}

func (p *typist) show(late <-chan delayed) {
	for d := range late {
		<-time.After(time.Until(d.at))
		p.mu.Lock()
		_, _ = p.want.Write(d.out)
		_, _ = p.s.Write(d.out)
		p.mu.Unlock()
	}
}

// press types one key and says whether the screen changed at once.
func (p *typist) press(key string) bool {
	p.mu.Lock()
	n := len(p.got.raw)
	p.s.Typed([]byte(key))
	changed := len(p.got.raw) > n
	p.mu.Unlock()
	if _, err := p.in.Write([]byte(key)); err != nil {
		p.Fatal(err)
	}
	return changed
}

// until waits for the program's output.
func (p *typist) until(what string, ok func(text string) bool) {
	p.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		p.mu.Lock()
		text := p.want.text()
		p.mu.Unlock()
		if ok(text) {
			return
		}
		if time.Now().After(deadline) {
			p.Fatalf("%s did not come; the screen is\n%s", what, text)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestARealShellIsPredicted(t *testing.T) {
	p := newTypist(t)
	p.until("the prompt", func(s string) bool { return strings.HasSuffix(s, "here$") })
	p.press("e")
	p.until("the first echo", func(s string) bool { return strings.HasSuffix(s, "$ e") })
	shown := 0
	keys := []string{"c", "h", "o", " ", "a", "b", "d", "\x1b[D", "c", "\x1b[C", "x", "\x7f", "e"}
	for _, k := range keys {
		if p.press(k) {
			shown++
		}
	}
	if shown != len(keys) {
		t.Errorf("%d of %d keys were shown at once", shown, len(keys))
	}
	p.mu.Lock()
	if text := p.got.text(); !strings.HasSuffix(text, "$ echo abcde") {
		t.Errorf("the screen is %q", text)
	}
	p.mu.Unlock()
	p.until("the echo", func(s string) bool { return strings.HasSuffix(s, "$ echo abcde") })
	p.press("\r")
	p.until("the answer", func(s string) bool { return strings.HasSuffix(s, "\nabcde\nhere$") })
	p.same()

	// What is typed before read has turned the echo off, the system echoes: it asks after that.
	for _, b := range "read -sp 'go ' p" {
		p.press(string(b))
	}
	p.press("\r")
	p.until("the question", func(s string) bool { return strings.HasSuffix(s, "\ngo") })
	p.mu.Lock()
	before := len(p.got.raw)
	p.mu.Unlock()
	for _, b := range "hunter2" {
		if p.press(string(b)) {
			t.Errorf("%q of the password was shown", b)
		}
	}
	p.press("\r")
	p.until("the prompt", func(s string) bool { return strings.HasSuffix(s, "here$") })
	p.mu.Lock()
	if out := string(p.got.raw[before:]); strings.ContainsAny(out, "unt") {
		t.Errorf("the password is in %q", out)
	}
	p.mu.Unlock()
	p.same()
}

// same compares the screens once everything is confirmed.
func (p *typist) same() {
	p.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.s.mu.Lock()
	p.s.flush(p.s.undo(nil))
	p.s.mu.Unlock()
	sameState(p, p.got, p.want)
}
