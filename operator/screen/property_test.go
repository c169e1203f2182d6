package screen

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// output draws what some program may write, in a language that the reference
// terminal speaks like real ones.
func output(cols, rows int) *rapid.Generator[string] {
	n := func(label string, top int) *rapid.Generator[int] { return rapid.IntRange(1, top) }
	return rapid.Custom(func(t *rapid.T) string {
		col, row := n("col", cols).Draw(t, "col"), n("row", rows).Draw(t, "row")
		few := rapid.IntRange(1, 4).Draw(t, "few")
		return rapid.OneOf(
			rapid.StringMatching(`[ -~]{1,30}`),
			rapid.StringMatching(`[a-z]{1,6}`),
			rapid.SampledFrom([]string{"\r\n", "\r", "\r\n$ ", "\n", "\b", "\t", "é", "жук", "❯ ", "x\r", "─", "\a", "e\u0301"[:1]}),
			rapid.SampledFrom([]string{"\x1b[K", "\x1b[1K", "\x1b[2K", "\x1b[J", "\x1b[2J", "\x1b[H\x1b[2J", "\x1b[X", "\x1b[@", "\x1b[P"}),
			rapid.SampledFrom([]string{"\x1b[m", "\x1b[0m", "\x1b[1;31m", "\x1b[4m", "\x1b[7m", "\x1b[38;5;33m", "\x1b[48;2;1;2;3m", "\x1b[39;49m", "\x1b[22;24;27m", "\x1b[95m", "\x1b[44m", "\x1b[21m"}),
			rapid.SampledFrom([]string{"\x1b7", "\x1b8", "\x1b[s", "\x1b[u", "\x1bM", "\x1bD", "\x1bE", "\x1b[L", "\x1b[M", "\x1b[2S", "\x1b[T", "\x1b[0m\x1b[2J\x1bc"}),
			rapid.SampledFrom([]string{"\x1b]0;✓ title\a", "\x1b]2;t\x1b\\", "\x1b[?25l", "\x1b[?25h", "\x1b[?2004h", "\x1b[?1h", "\x1b=", "\x1b(0", "\x1b(B", "\x1b[?7l", "\x1b[?7h", "\x1b[>4;1n", "\x1b[6n"}),
			rapid.Just(fmt.Sprintf("\x1b[%d;%dH", row, col)),
			rapid.Just(fmt.Sprintf("\x1b[%dG", col)),
			rapid.Just(fmt.Sprintf("\x1b[%dd", row)),
			rapid.Just(fmt.Sprintf("\x1b[%dA\x1b[%dC", few, few)),
			rapid.Just(fmt.Sprintf("\x1b[%dB\x1b[%dD", few, few)),
			rapid.Just(fmt.Sprintf("\x1b[%dX\x1b[%d@\x1b[%dP", few, few, few)),
			rapid.Just(fmt.Sprintf("\x1b[2;%dr\x1b[%d;1H\nx\x1bM\x1b[L\x1b[M\x1b[r", max(3, rows-1), rapid.IntRange(2, rows-1).Draw(t, "in"))),
			rapid.Just(fmt.Sprintf("\x1b[0m\x1b[?1049h\x1b[2J\x1b[%d;%dHedit\x1b[0m\x1b[?1049l", row, col)),
		).Draw(t, "output")
	})
}

// TestTheTerminalIsAsIfWeWereNotThere is the promise of this package: whatever a
// program writes and a person types, whenever, taking the overlay off leaves the
// terminal as the program alone would have left it.
func TestTheTerminalIsAsIfWeWereNotThere(t *testing.T) {
	for _, mode := range []Mode{Adaptive, Always, Never} {
		t.Run(mode.String(), func(t *testing.T) {
			var predicted, noticed int
			rapid.Check(t, func(t *rapid.T) {
				p, n := play(t, mode)
				predicted, noticed = predicted+p, noticed+n
			})
			if noticed == 0 || mode != Never && predicted == 0 {
				t.Error("nothing was ever drawn: nothing was tested")
			}
			t.Logf("drawn at a comparison: %d predictions, %d notices", predicted, noticed)
		})
	}
}

// play is one session of a shell that sometimes does something else. It returns
// how often something of ours was on the terminal when we compared.
func play(t *rapid.T, mode Mode) (predicted, noticed int) {
	now := time.Now()
	cols, rows := rapid.IntRange(12, 60).Draw(t, "cols"), rapid.IntRange(4, 12).Draw(t, "rows")
	got, want := newReference(cols, rows), newReference(cols, rows)
	rtt := time.Duration(rapid.IntRange(0, 200).Draw(t, "rtt")) * time.Millisecond
	s := New(Config{Out: got, Columns: cols, Rows: rows, Mode: mode, RTT: func() time.Duration { return rtt }})
	sh := &shell{prompt: "$ "}
	var waiting []byte
	write := func(p []byte) {
		_, _ = want.Write(p)
		for len(p) > 0 {
			n := len(p)
			if rapid.IntRange(0, 3).Draw(t, "cut?") == 0 {
				n = rapid.IntRange(1, len(p)).Draw(t, "cut")
			}
			_, _ = s.write(p[:n], now)
			p = p[n:]
		}
	}
	echo := func(n int) {
		var out []byte
		for ; n > 0 && len(waiting) > 0; n-- {
			out, waiting = append(out, sh.key(waiting[0])...), waiting[1:]
		}
		if len(out) > 0 {
			write(out)
		}
	}
	write([]byte(sh.prompt))
	acts := map[string]func(*rapid.T){
		"type": func(t *rapid.T) {
			p := rapid.OneOf(rapid.SampledFrom([]string{"\x7f", "\x1b[D", "\x1b[C", "\r", "\x01"}), rapid.StringMatching(`[a-z ]{1,3}`), rapid.StringMatching(`[a-z]`)).Draw(t, "keys")
			s.typed([]byte(p), now)
			waiting = append(waiting, p...)
		},
		"echo":     func(t *rapid.T) { echo(rapid.IntRange(1, 5).Draw(t, "n")) },
		"echo all": func(*rapid.T) { echo(len(waiting)) },
		"type and echo": func(t *rapid.T) {
			p := []byte(rapid.StringMatching(`[a-z]{1,4}`).Draw(t, "word"))
			s.typed(p, now)
			waiting = append(waiting, p...)
			echo(len(waiting))
		},
		"output": func(t *rapid.T) { write([]byte(output(cols, rows).Draw(t, "output"))) },
		"wait": func(t *rapid.T) {
			now = now.Add(time.Duration(rapid.IntRange(1, 400).Draw(t, "ms")) * time.Millisecond)
			s.tick(now)
		},
		"notice": func(t *rapid.T) {
			s.Notice(rapid.SampledFrom([]string{"network lost", "lost 12 s ago; what you type is kept", "é\x1b[2J"}).Draw(t, "text"))
		},
		"no notice": func(*rapid.T) { s.ClearNotice() },
		"hold":      func(t *rapid.T) { s.hold(rapid.Bool().Draw(t, "gone"), now) },
		"": func(t *rapid.T) {
			if s.drawn.predicted {
				predicted++
			}
			if s.drawn.bar != nil {
				noticed++
			}
			s.mu.Lock()
			s.flush(s.undo(nil))
			s.mu.Unlock()
			compare(t, got, want)
			s.redraw()
		},
	}
	t.Repeat(acts)
	s.Close()
	compare(t, got, want)
	for _, end := range []string{"\x1b8", "x", "\x1b[?1049l"} { // what is saved, too
		_, _ = s.Write([]byte(end))
		_, _ = want.Write([]byte(end))
		compare(t, got, want)
	}
	return predicted, noticed
}

func compare(t *rapid.T, got, want *reference) {
	if len(got.part) > 0 {
		return // within a letter
	}
	if g, w := got.state(), want.state(); g != w {
		t.Fatalf("the terminal differs from one that only got the program's output.\ngot:\n%s\nwant:\n%s\nsent:\n%q\nprogram:\n%q", g, w, got.raw, want.raw)
	}
}

// FuzzOutput: any bytes in any pieces pass in order and unchanged where nothing
// is to be drawn, and never trouble the model where something is.
func FuzzOutput(f *testing.F) {
	f.Add([]byte("\x1b[31mhello\x1b[K\r\n"), uint8(3), "ls\x7f\x1b[D")
	f.Add([]byte("\x1b]0;✓\a\xe2\x82\x1b[2J\xff"), uint8(1), "é")
	f.Add([]byte("\x1b[1;2;3;4;5;6;7;8;9;10;11;12;13;14;15;16;17;18m\x1bP1$r\x1b\\\x1b[999999999999999b"), uint8(7), "\xe6\x97")
	f.Add([]byte("日本語\x1b[2D\x1b[@\x1b[P\x1b[4hab\x1b[4l\x1b[5;2r\x1bM\x1b[?6h\x1b[3;3H"), uint8(2), "日")
	f.Fuzz(func(t *testing.T, p []byte, piece uint8, typed string) {
		for _, mode := range []Mode{Never, Always} {
			var out bytes.Buffer
			s := New(Config{Out: &out, Columns: 20, Rows: 5, Mode: mode, RTT: func() time.Duration { return time.Second }})
			for rest := p; len(rest) > 0; {
				n := min(len(rest), int(piece)+1)
				if _, err := s.Write(rest[:n]); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
				if mode != Never {
					s.Typed([]byte(typed))
					s.Notice(typed)
				}
			}
			s.Close()
			if mode == Never && !bytes.Equal(out.Bytes(), p) {
				t.Fatalf("sent %q, want %q", out.Bytes(), p)
			}
		}
	})
}
