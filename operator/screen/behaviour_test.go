package screen

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// session is a person at a terminal, a network of a fixed delay, and a shell.
// Its clock is the bubble's.
type session struct {
	*testing.T
	s    *Screen
	got  *reference // the terminal
	want *reference // a terminal without us
	sh   *shell
	rtt  time.Duration
	way  chan string // keys on their way
	mu   sync.Mutex  // one echo at a time
}

// open starts a session with a prompt whose first letter has been echoed, if
// warm: from there on the predictor is confident.
func open(t *testing.T, rtt time.Duration, mode Mode, warm bool) *session {
	e := &session{T: t, got: newReference(40, 6), want: newReference(40, 6), sh: &shell{prompt: "$ "}, rtt: rtt, way: make(chan string, 100)}
	e.s = New(Config{Out: e.got, Columns: 40, Rows: 6, Mode: mode, RTT: func() time.Duration { return rtt }})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.s.Run(ctx) }()
	t.Cleanup(func() {
		synctest.Wait() // an echo that is due now may still be on its way to both terminals
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
		e.s.Close()
		sameState(t, e.got, e.want)
	})
	e.program("welcome\r\n" + e.sh.prompt)
	if warm {
		e.press("l")
		time.Sleep(rtt)
		synctest.Wait()
	}
	return e
}

// program writes to the terminal now.
func (e *session) program(out string) {
	_, _ = e.want.Write([]byte(out))
	if _, err := e.s.Write([]byte(out)); err != nil {
		e.Error(err)
	}
}

// press types keys; their echo comes after a round trip, in the order of the
// keys.
func (e *session) press(keys string) {
	e.s.Typed([]byte(keys))
	e.way <- keys
	time.AfterFunc(e.rtt, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		var out []byte
		for _, b := range []byte(<-e.way) {
			out = append(out, e.sh.key(b)...)
		}
		if len(out) > 0 {
			e.program(string(out))
		}
	})
}

// shows checks the last line a person reads, and the cursor's column.
func (e *session) shows(line string, col int) {
	e.Helper()
	text := e.got.text()
	if got := text[strings.LastIndexByte(text, '\n')+1:]; got != strings.TrimRight(line, " ") || e.got.column() != col {
		e.Errorf("after %v the screen ends with %q, cursor in column %d; want %q, %d", time.Since(start), got, e.got.column(), line, col)
	}
}

var start = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // of every bubble

const slowLink = 100 * time.Millisecond

func TestKeysAreShownBeforeTheirEcho(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := open(t, slowLink, Adaptive, true)
		e.press("s")
		e.shows("$ ls", 4)
		if !e.got.underlined(3, 1) || e.got.underlined(2, 1) {
			t.Error("what is not confirmed is not underlined, or what is confirmed is")
		}
		time.Sleep(10 * time.Millisecond)
		e.press(" ")
		e.press("-")
		e.press("a")
		e.shows("$ ls -a", 7)
		e.press("\x7f")
		e.press("l")
		e.shows("$ ls -l", 7)
		e.press("\x1b[D")
		e.press("\x1b[D")
		e.press("x")
		e.shows("$ ls x-l", 6)
		e.press("\x1b[C")
		e.shows("$ ls x-l", 7)
		time.Sleep(slowLink)
		synctest.Wait()
		e.shows("$ ls x-l", 7)
		sameState(t, e.got, e.want) // confirmed: nothing of ours is left
	})
}

func TestNothingOfAnEpochIsShownBeforeAnEchoConfirmedIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := open(t, slowLink, Always, false)
		e.press("l")
		e.shows("$", 2)
		time.Sleep(50 * time.Millisecond)
		e.press("s")
		e.shows("$", 2)
		time.Sleep(50 * time.Millisecond)
		synctest.Wait()
		e.shows("$ ls", 4) // the echo of l is there: s is shown, too
		e.press("\r")
		time.Sleep(2 * slowLink)
		synctest.Wait()
		e.press("p")
		e.shows("$", 2) // a new line is a new epoch
		time.Sleep(slowLink)
	})
}

func TestPasswordsAreNeverShown(t *testing.T) {
	for name, prompt := range map[string]string{"after a command": "\r\nPassword: ", "out of nowhere": "\r\n\x1b[1mPassword:\x1b[m "} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := open(t, slowLink, Always, true)
				if name == "after a command" {
					e.press("s")
					e.s.Typed([]byte("\r"))
					time.Sleep(slowLink)
					synctest.Wait()
				}
				e.program(prompt)
				e.sh.silent = true
				for _, b := range "secret" {
					e.press(string(b))
					e.shows("Password:", 10)
					time.Sleep(70 * time.Millisecond)
					synctest.Wait()
					e.shows("Password:", 10)
				}
				if strings.Contains(e.got.sent(), "secret") || strings.Contains(e.got.sent(), "s\x1b[0me") {
					t.Error("the password went to the terminal")
				}
				e.sh.silent = false
				e.program("\r\n" + e.sh.prompt)
			})
		})
	}
}

func TestWrongPredictionsAreGoneWithinARoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := open(t, slowLink, Adaptive, true)
		e.s.Typed([]byte("q")) // this program does something else with it
		e.shows("$ lq", 4)
		time.Sleep(slowLink)
		e.program("\r\x1b[2Kpager")
		e.shows("pager", 5)
		sameState(t, e.got, e.want)
	})
}

func TestPredictionsWithoutAnEchoAreGoneAfterTwoRoundTrips(t *testing.T) {
	for _, rtt := range []time.Duration{slowLink, 300 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			e := open(t, rtt, Adaptive, true)
			e.s.Typed([]byte("q"))
			time.Sleep(patience(rtt) - time.Millisecond)
			synctest.Wait()
			e.shows("$ lq", 4)
			time.Sleep(2 * time.Millisecond)
			synctest.Wait()
			e.shows("$ l", 3)
			e.s.Typed([]byte("q"))
			e.shows("$ l", 3) // and nothing is shown until an echo comes again
			sameState(t, e.got, e.want)
		})
	}
}

func TestAnEditorsCommandsAreNotShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := open(t, slowLink, Always, true)
		e.program("\x1b[?1049h\x1b[H\x1b[2Jone\r\ntwo\x1b[H")
		for _, k := range []string{"j", "x", "d", "d"} {
			e.s.Typed([]byte(k))
			sameState(t, e.got, e.want)
			time.Sleep(slowLink)
			synctest.Wait()
		}
		e.program("\x1b[2;1H\x1b[P") // j and x, at last
		sameState(t, e.got, e.want)
		e.s.Typed([]byte("i"))
		e.s.Typed([]byte("n"))
		sameState(t, e.got, e.want)
		e.program("\x1b[?1049l")
		sameState(t, e.got, e.want)
	})
}

func TestFastLinksArePredictedOnlyWhileEchoesAreLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := open(t, 5*time.Millisecond, Adaptive, true)
		e.press("s")
		e.shows("$ l", 3)
		time.Sleep(5 * time.Millisecond)
		synctest.Wait()
		e.rtt = 200 * time.Millisecond // the network stalls; the average knows nothing yet
		e.press("x")
		e.shows("$ ls", 4)
		time.Sleep(glitchAfter)
		synctest.Wait()
		e.shows("$ lsx", 5)
		time.Sleep(e.rtt)
		synctest.Wait()
	})
}

func TestWhileThePathIsGoneWhatIsTypedStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := open(t, slowLink, Adaptive, true)
		var rtt time.Duration // unknown without a path
		e.s.cfg.RTT = func() time.Duration { return rtt }
		e.s.Hold(true)
		e.s.Notice("network lost; ~. ends")
		e.s.Typed([]byte("s"))
		time.Sleep(time.Minute)
		synctest.Wait()
		if text := e.got.text(); !strings.Contains(text, "$ ls") || !strings.Contains(text, "network lost; ~. ends") {
			t.Errorf("the screen is %q", text)
		}
		e.s.Hold(false)
		e.s.ClearNotice()
		e.program("s")
		sameState(t, e.got, e.want)
	})
}

func TestNoticesAreDrawnWhereTheyCanBeTakenOff(t *testing.T) {
	const text = "network lost 12 s ago"
	for name, c := range map[string]struct {
		before string
		row    int
	}{
		"the top of a known screen":          {"\x1b[H\x1b[2Jone\r\n\x1b[44mtwo\x1b[m\r\n$ ", 0},
		"another row if the cursor is there": {"\x1b[H\x1b[2J$ ", 1},
		"not over what we cannot restore":    {"\x1b[H\x1b[2Je\u0301\r\n$ ", 2},
		"an alternate screen":                {"\x1b[?1049h\x1b[2J\x1b[5;3Hedit", 0},
		"the line, if the row is unknown":    {"$ ", 0},
		"the title, if nothing is known":     {"$ \x1b(0", -1},
	} {
		t.Run(name, func(t *testing.T) {
			got, want := newReference(40, 6), newReference(40, 6)
			s := New(Config{Out: got, Columns: 40, Rows: 6, RTT: func() time.Duration { return 0 }})
			for _, w := range []string{c.before, "x", "\r\n", "\x1b[A", ""} {
				_, _ = want.Write([]byte(w))
				_, _ = s.Write([]byte(w))
				s.Notice(text)
				lines := strings.Split(got.text(), "\n")
				if w == c.before && c.row >= 0 && (c.row >= len(lines) || !strings.Contains(lines[c.row], text)) {
					t.Errorf("row %d has no notice: %q", c.row, lines)
				}
				if w == c.before && c.row < 0 && got.vt.Title() != text {
					t.Errorf("the title is %q", got.vt.Title())
				}
				s.ClearNotice()
				sameState(t, got, want)
				s.Notice(text)
			}
			s.Close()
			s.Close()
			sameState(t, got, want)
		})
	}
}

func TestNoticesCannotSteerTheTerminal(t *testing.T) {
	got := newReference(80, 6)
	s := New(Config{Out: got, Columns: 80, Rows: 6, RTT: func() time.Duration { return 0 }})
	_, _ = s.Write([]byte("\x1b[H\x1b[2J\r\n$ "))
	for _, evil := range []string{"\x1b[2J", "\a\x1b]52;c;cm0=\a", "\u009b2J", "日本", "\r\n", "\u202e"} {
		n := len(got.raw)
		s.Notice("host " + evil)
		if strings.Contains(string(got.raw[n:]), evil) {
			t.Errorf("%q went to the terminal", evil)
		}
	}
	s.Close()
}

func TestATitleIsPutBack(t *testing.T) {
	got := newReference(40, 6)
	s := New(Config{Out: got, Columns: 40, Rows: 6, RTT: func() time.Duration { return 0 }})
	_, _ = s.Write([]byte("\x1b]0;✓ web\x1b\\\x1b(0lqk"))
	s.Notice("network lost")
	if got.vt.Title() != "network lost" {
		t.Errorf("the title is %q", got.vt.Title())
	}
	s.ClearNotice()
	if got.vt.Title() != "✓ web" {
		t.Errorf("the title is %q", got.vt.Title())
	}
	s.Close()
}

func TestResizeForgetsAndTheNextLineIsCertainAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := open(t, slowLink, Always, true)
		e.press("s")
		e.shows("$ ls", 4)
		e.got.vt.Resize(30, 8)
		e.want.vt.Resize(30, 8)
		e.s.Resize(30, 8)
		e.s.Typed([]byte("x"))
		time.Sleep(slowLink)
		synctest.Wait()
		e.program("\r\x1b[J$ ls")
		e.sh.line, e.sh.at = []rune("ls"), 2
		e.press("y")
		time.Sleep(slowLink)
		synctest.Wait()
		e.press("z")
		e.shows("$ lsyz", 6)
		time.Sleep(slowLink)
		synctest.Wait()
	})
}

func TestHelpOfOursStandsBetweenTheProgramsLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := open(t, slowLink, Always, true)
		e.press("s")
		const help = "Escapes\n  ~.  end\n"
		_, _ = e.want.Write([]byte("\r\nEscapes\r\n  ~.  end\r\n"))
		e.s.Say(help)
		sameState(t, e.got, e.want)
		e.program("\x1b[3")
		e.s.Say("within a sequence\n")
		sameState(t, e.got, e.want)
		e.program("1m")
		_, _ = e.want.Write([]byte("\r\nwithin a sequence\r\n"))
		sameState(t, e.got, e.want)
		time.Sleep(slowLink)
		synctest.Wait()
	})
}

func TestALinesEndIsNotPredicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := open(t, slowLink, Always, true)
		long := strings.Repeat("x", 35)
		e.press(long)
		e.shows("$ l"+long, 38)
		e.press("y")
		e.shows("$ l"+long+"y", 39)
		e.press("z")
		e.shows("$ l"+long+"y", 39)
		time.Sleep(slowLink)
		synctest.Wait()
		e.press("\r")
		time.Sleep(slowLink)
		synctest.Wait()
	})
}

func TestTheTerminalsErrorEndsTheOutput(t *testing.T) {
	broken := errors.New("gone")
	s := New(Config{Out: failing{broken}, Columns: 40, Rows: 6, RTT: func() time.Duration { return 0 }})
	for range 2 {
		if _, err := s.Write([]byte("x")); !errors.Is(err, broken) {
			t.Errorf("the error is %v", err)
		}
	}
	s.Close()
}

type failing struct{ err error }

// Write fails.
func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestModesHaveNames(t *testing.T) {
	var m Mode
	for name, want := range map[string]Mode{"adaptive": Adaptive, "always": Always, "never": Never} {
		if err := m.Set(name); err != nil || m != want || m.String() != name {
			t.Errorf("%s is %v, %v", name, &m, err)
		}
	}
	if err := m.Set("Always"); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", "Always")) {
		t.Errorf("the error is %v", err)
	}
}
