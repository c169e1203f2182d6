package kept

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hinshun/vt10x"
	"github.com/tucdesk/tucdesk/agent/process"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/sidebyside"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	sidebyside.Tests(8)
	goleak.VerifyTestMain(m)
}

const patience = time.Minute

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // the test's own set-up
	}
	return v
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// shell is a holder with a program on it.
type shell struct {
	t      *testing.T
	h      *Holder
	door   *Door
	cancel context.CancelFunc
	done   chan struct{}
	exited chan Exit
}

// holding runs a command line in a holder.
func holding(t *testing.T, line string) *shell {
	t.Helper()
	ours, theirs, err := NewDoor()
	if err != nil {
		t.Fatal(err)
	}
	door := must(OpenDoor(theirs))
	_ = theirs.Close()
	s := &shell{t: t, door: ours, done: make(chan struct{}), exited: make(chan Exit, 1)}
	s.h = &Holder{
		Start: func(at Terminal) (*process.Process, error) {
			return process.Start(process.Spec{
				File: process.File{Path: "/bin/sh"}, Argv: []string{"sh", "-c", line}, Dir: "/",
				Env:      []string{"PATH=" + process.Path, "TERM=" + at.Term, "PS1=$ "},
				Terminal: &process.Terminal{Size: at.Size, Modes: at.Modes},
			})
		},
		Started: func(*process.Process) {},
		Failed:  func(*refusal.Error) {},
		Exited:  func(e Exit, _, _ int64) { s.exited <- e },
	}
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	go func() {
		defer close(s.done)
		s.h.Run(ctx, door)
	}()
	t.Cleanup(func() {
		s.cancel()
		<-s.done
		_ = ours.Close()
	})
	return s
}

// view is a joined stream and what it has shown.
type view struct {
	*Joined
	mu  sync.Mutex
	all []byte
	end error
	sum chan struct{}
}

func (s *shell) join(cols, rows int) *view {
	s.t.Helper()
	v := &view{Joined: s.quiet(cols, rows), sum: make(chan struct{})}
	go func() {
		defer close(v.sum)
		b := make([]byte, 4<<10)
		for {
			n, err := v.Read(b)
			v.mu.Lock()
			v.all, v.end = append(v.all, b[:n]...), err
			v.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	s.t.Cleanup(func() {
		_ = v.Close()
		<-v.sum
	})
	return v
}

// quiet joins and reads nothing.
func (s *shell) quiet(cols, rows int) *Joined {
	s.t.Helper()
	holder, session, err := NewStream()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.door.Pass(holder); err != nil {
		s.t.Fatal(err)
	}
	_ = holder.Close()
	j, err := Join(session, Terminal{Term: "xterm", Size: process.Size{Columns: cols, Rows: rows}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = j.Close() })
	return j
}

func (v *view) text() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return string(v.all)
}

func (v *view) shows(t *testing.T, text string) {
	t.Helper()
	until(t, fmt.Sprintf("%q", text), func() bool { return strings.Contains(v.text(), text) })
}

// screen is what a terminal written by somebody else makes of the output.
func (v *view) screen(cols, rows int) string {
	term := vt10x.New(vt10x.WithSize(cols, rows))
	_, _ = term.Write([]byte(v.text()))
	return term.String()
}

func TestShellOutlivesItsStream(t *testing.T) {
	s := holding(t, `x=before; while read a; do echo "[$x $a]"; x=$a; done`)
	first := s.join(80, 24)
	must(first.Write([]byte("one\n")))
	first.shows(t, "[before one]")
	_ = first.Close()
	<-first.sum
	again := s.join(80, 24)
	again.shows(t, "[before one]") // replayed
	must(again.Write([]byte("two\n")))
	again.shows(t, "[one two]") // by the same program
	must(again.Write([]byte{4}))
	<-again.sum
	var e Ended
	if !errors.As(again.end, &e) || e.Exit != (Exit{}) {
		t.Errorf("it ended with %v", again.end)
	}
	<-s.done
}

func TestScreenComesBackAsItWas(t *testing.T) {
	for name, line := range map[string]string{
		"lines":         `for i in 1 2 3 4 5; do printf 'line %d\n' $i; done; printf 'ready: '; read a`,
		"second screen": `printf '\033[?1049h\033[2J\033[5;10Hmiddle\033[1;31mred\033[?25l\033[24;1Hready: '; read a`,
		"colours":       `printf '\033[33myel\033[0;7mrev\033[m\r\n\t\303\244\342\202\254 ready: '; read a`,
	} {
		s := holding(t, line)
		first := s.join(80, 24)
		first.shows(t, "ready: ")
		want := first.screen(80, 24)
		_ = first.Close()
		again := s.join(80, 24)
		again.shows(t, "ready: ")
		if got := again.screen(80, 24); got != want {
			t.Errorf("%s: the screen was\n%s\nand is\n%s", name, want, got)
		}
		s.cancel()
		<-s.done
	}
}

func TestNewestStreamHasTheShellAndTheOldOneIsTold(t *testing.T) {
	s := holding(t, `while read a; do echo "got $a"; done`)
	first := s.join(80, 24)
	must(first.Write([]byte("one\n")))
	first.shows(t, "got one")
	second := s.join(80, 24)
	<-first.sum
	if refusal.Of(first.end) != refusal.TakenOver {
		t.Errorf("the first stream ended with %v", first.end)
	}
	_, _ = first.Write([]byte("stolen\n"))
	must(second.Write([]byte("two\n")))
	second.shows(t, "got two")
	if strings.Contains(second.text(), "stolen") {
		t.Error("who lost the shell still types into it")
	}
}

// TestStuckStreamLosesTheShell: a session whose network is gone reads nothing, and
// must not keep its operator from another one.
func TestStuckStreamLosesTheShell(t *testing.T) {
	t.Parallel()
	s := holding(t, `yes | head -c 3000000; echo; echo the-"end"; read a`)
	_ = s.quiet(80, 24)
	until(t, "the program to wait for its reader", func() bool {
		s.h.mu.Lock()
		defer s.h.mu.Unlock()
		return s.h.now != nil && s.h.back.written-s.h.now.sent > maxLag
	})
	s.join(80, 24).shows(t, "the-end")
}

func TestH4ScrollbackIsBoundedAndNothingWaitsWhileDetached(t *testing.T) { // not parallel: it looks at memory
	s := holding(t, `echo go; yes`)
	first := s.join(80, 24)
	first.shows(t, "go")
	_ = first.Close()
	written := func() int64 {
		s.h.mu.Lock()
		defer s.h.mu.Unlock()
		return s.h.back.written
	}
	until(t, "the program to write on without a reader", func() bool { return written() > 8*Scrollback })
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	so := written()
	until(t, "more output", func() bool { return written() > so+8*Scrollback })
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > Scrollback {
		t.Errorf("8 MiB of output took %d bytes of memory", grown)
	}
	holder, session, err := NewStream()
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	defer session.Close()
	s.h.mu.Lock()
	if n := len(s.h.back.replay()); n > Scrollback+1<<10 || n < Scrollback/2 {
		t.Errorf("%d bytes are replayed", n)
	}
	s.h.mu.Unlock()
}

func TestFullScreenProgramIsMadeToDrawAgain(t *testing.T) {
	s := holding(t, `trap 'printf "<%s>" "$(stty size)"' WINCH; printf '\033[?1049hon'; while :; do sleep 0.05; done`)
	first := s.join(80, 24)
	first.shows(t, "on")
	_ = first.Close()
	again := s.join(80, 24)
	again.shows(t, "<24 80>")
	_ = again.Close()
	s.join(100, 30).shows(t, "<30 100>")
}

func TestJ2ReplayAsksTheTerminalNothing(t *testing.T) {
	for _, q := range []string{
		"\x1b[c", "\x1b[>c", "\x1b[0c", "\x1b[6n", "\x1b[5n", "\x1b[?6n", "\x1b[18t", "\x1b[21t", "\x1b[?2026$p", "\x1b[>0q", "\x1b[?u",
		"\x1b]52;c;?\x07", "\x1b]52;c;aGk=\x1b\\", "\x1b]10;?\x07", "\x1b]4;1;?\x1b\\", "\x1bP+q544e\x1b\\", "\x1bP$qm\x1b\\", "\x1bZ", "\x05",
		"\xc2\x9bc", "\xc2\x9b6n", "\xc2\x9d52;c;?\x07", "\x1b_G\x1b\\", "\x9b6n", "\x1b[\x1b[6n", "\x1b]0;a\x1b[6n", "\xc2\x1b[6n", "\x1b[1;1R\x1b[x",
		// A control character inside of a sequence is obeyed, and the sequence goes on.
		"\x1b\x00[6n", "\x1b\n[6n", "\x1b\x00[c", "\x1b\x00[21t", "\x1b\x7f[6n", "\x1b\x00]52;c;UFdORUQ=\x07", "\x1b\x05", "\x1b[0\x05m", "\x1b[\x00>q", "\x1b[\x00?u", "\x1b(\x05B",
		// Strings end, and are broken off, by C1 in UTF-8 too; what is inside of a title may be obeyed.
		"\x1bPx\xc2\x9c\xc2\x9b6n", "\x1b]2;x\xc2\x9b6n\x07", "\x1b]2;x\x05\x07", "\x1b]2;x\x18\x1b[6n", "\x1bP\xc2\x9c\x1b[6n", "\x1b[1\xc2\x9b6n",
		// Printing, and answers that are rare.
		"\x1b[5i", "\x1b[?5i", "\x1b['|", "\x1b[#|", "\x1b[&u", "\x1b[+x", "\x1b[1;1;1;1;1;1*y", "\x1b[=c", "\x1b[?996n",
	} {
		back := newScrollback(1 << 10)
		back.add([]byte("left" + q + "right"))
		got := string(back.replay())
		if !strings.Contains(got, "left") || !strings.HasSuffix(got, "right") {
			t.Errorf("%q: what is around it is gone: %q", q, got)
		}
		for _, answered := range []string{"6n", "5n", "5i", "'|", "#|", "&u", "+x", "*y", "=c", ">q", "?u", "21t", "]52", "\x1b[c", "\x1b]", "\x1bP", "\x05", "\x9b", "$p", "\x1b[x", "\x1bZ"} {
			if strings.Contains(got, answered) && !(strings.HasSuffix(q, "6n") && !strings.Contains(got, "\x1b["+answered)) {
				t.Errorf("%q: the terminal is asked: %q", q, got)
			}
		}
	}
}

// TestJ2WhatIsShownAgainIsRebuilt: controls inside of a sequence are left out, and a string
// ends as every terminal knows it.
func TestJ2WhatIsShownAgainIsRebuilt(t *testing.T) {
	for in, want := range map[string]string{
		"\x1b[3\n1m": "\x1b[31m", "\x1b[0\x05m": "\x1b[0m", "\x1b]2;x\xc2\x9c\xc2\x9b6n": "\x1b]2;x\x1b\\", "\x1b]0;\xc3\xa4\x07": "\x1b]0;\xc3\xa4\x07",
		"\x1b[2 q\x1b[>1u\x1b[?25l": "\x1b[2 q\x1b[>1u\x1b[?25l", "a\xc2\xa0b": "a\xc2\xa0b",
	} {
		var f filter
		if got := string(f.append(nil, []byte(in))); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestModesOfBytesThatAreGoneAreSetBeforeTheRest(t *testing.T) {
	back := newScrollback(64)
	back.add([]byte("\x1b[?1049h\x1b[?2004;1h\x1b[?25l\x1b[?1l"))
	for range 20 {
		back.add([]byte("0123456789"))
	}
	got := string(back.replay())
	if !strings.Contains(got, "\x1b[?1049h\x1b[?2004h\x1b[?25l6") || !back.alternate() {
		t.Errorf("%q", got)
	}
	back.add([]byte("\x1b[?1049l\x1b[?25h"))
	if back.alternate() {
		t.Error("the first screen is not on")
	}
}

func FuzzReplayIsHarmless(f *testing.F) {
	f.Add([]byte("a\x1b[31mb\x1b[6n\x1b]0;t\x07\xc3\xa4\xc2\x9b6n"), uint16(20))
	f.Add([]byte("\x1b[?1049h\x1b]52;c;?\x1b\\\x1bP$q\x1b\\"), uint16(3))
	f.Fuzz(func(t *testing.T, raw []byte, size uint16) {
		back := newScrollback(int(size)%256 + 1)
		for part := range bytes.Lines(raw) {
			back.add(part)
		}
		if back.written != int64(len(raw)) || len(back.ring) > cap(back.ring) {
			t.Fatalf("%d of %d bytes", back.written, len(raw))
		}
		if n := int(back.written - back.oldest()); n > 0 && !bytes.Equal(ringText(back), raw[len(raw)-n:]) {
			t.Fatal("not the newest bytes")
		}
		var first, second filter
		once := first.append(nil, raw)
		if again := second.append(nil, once); !bytes.Equal(again, once) {
			t.Fatalf("filtered twice: %q, %q", once, again)
		}
		back.replay()
	})
}

func ringText(s *scrollback) (out []byte) {
	for place := s.oldest(); place < s.written; {
		b := s.from(place, 7)
		out = append(out, b...)
		place += int64(len(b))
	}
	return out
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 2, '{', '}'})
	f.Add([]byte{2, 0, 0, 0, 1, 'x', 4, 0, 0, 0, 3, 'I', 'N', 'T'})
	f.Add([]byte{2, 0xff, 0, 0, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var out bytes.Buffer
		in := framer{rw: rw{bytes.NewReader(raw), io.Discard}, holder: true}
		again := framer{rw: rw{nil, &out}}
		for {
			typ, body, err := in.receive()
			if err != nil {
				break
			}
			if err := again.send(typ, body); err != nil {
				t.Fatalf("a frame that was received cannot be sent: %v", err)
			}
		}
		if !bytes.HasPrefix(raw, out.Bytes()) {
			t.Fatal("frames read and written again differ")
		}
	})
}

type rw struct {
	io.Reader
	io.Writer
}

func (rw) Close() error { return nil }
