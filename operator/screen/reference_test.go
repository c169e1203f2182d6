package screen

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/hinshun/vt10x"
)

// reference is a terminal written by somebody else.
type reference struct {
	mu   sync.Mutex
	vt   vt10x.Terminal
	raw  []byte // all it ever got
	part []byte // of a letter
}

func newReference(cols, rows int) *reference {
	return &reference{vt: vt10x.New(vt10x.WithSize(cols, rows))}
}

// Write feeds whole letters only: the emulator loses those that are cut.
func (r *reference) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.raw = append(r.raw, p...)
	r.part = append(r.part, p...)
	whole := len(r.part)
	for i := 1; i < utf8.UTFMax && i <= len(r.part); i++ {
		if tail := r.part[len(r.part)-i:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				whole -= i
			}
			break
		}
	}
	if _, err := r.vt.Write(r.part[:whole]); err != nil {
		return 0, err
	}
	r.part = append(r.part[:0], r.part[whole:]...)
	return len(p), nil
}

// state is everything of the terminal that can be seen or that later output
// depends on.
func (r *reference) state() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out strings.Builder
	cols, rows := r.vt.Size()
	for y := range rows {
		for x := range cols {
			g := r.vt.Cell(x, y)
			if g.Char == 0 {
				g.Char = ' '
			}
			if g.Char == ' ' && g.Mode == 0 && g.FG == vt10x.DefaultFG && g.BG == vt10x.DefaultBG {
				out.WriteByte(' ')
				continue
			}
			fmt.Fprintf(&out, "%c", g.Char)
			if g.Mode != 0 || g.FG != vt10x.DefaultFG || g.BG != vt10x.DefaultBG {
				fmt.Fprintf(&out, "{%d %d %d}", g.Mode, g.FG, g.BG)
			}
		}
		out.WriteByte('\n')
	}
	fmt.Fprintf(&out, "cursor %+v mode %x", r.vt.Cursor(), r.vt.Mode())
	return out.String()
}

// text is what a person reads, without blanks at line ends.
func (r *reference) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := strings.Split(r.vt.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(strings.ReplaceAll(lines[i], "\x00", " "), " ")
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}

func (r *reference) underlined(x, y int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.vt.Cell(x, y).Mode&2 != 0
}

// column is that of the cursor.
func (r *reference) column() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.vt.Cursor().X
}

// sent is all it got.
func (r *reference) sent() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.raw)
}

// sameState fails if two terminals differ.
func sameState(t testing.TB, got, want *reference) {
	t.Helper()
	if g, w := got.state(), want.state(); g != w {
		t.Fatalf("the terminal differs from one that only got the program's output.\ngot:\n%s\nwant:\n%s\nsent:\n%q\nprogram:\n%q", g, w, got.raw, want.raw)
	}
}
