//go:build unix

package screen

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hinshun/vt10x"
)

const paneCols, paneRows = 40, 10

// multiplexer is tmux, as a second reference: it knows wide letters, accents,
// insert mode, colour erasing and which cells were never written.
type multiplexer struct {
	*testing.T
	dir string
}

func newMultiplexer(t *testing.T) *multiplexer {
	if _, err := exec.LookPath("tmux"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("there is no tmux")
		}
		t.Skip("there is no tmux: apt-get install tmux")
	}
	m := &multiplexer{T: t, dir: t.TempDir()}
	t.Cleanup(func() { _ = m.command("kill-server").Run() })
	return m
}

func (m *multiplexer) command(args ...string) *exec.Cmd {
	c := exec.Command("tmux", append([]string{"-f", os.DevNull, "-S", filepath.Join(m.dir, "socket")}, args...)...)
	c.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TERM=xterm-256color")
	return c
}

func (m *multiplexer) run(args ...string) string {
	m.Helper()
	out, err := m.command(args...).CombinedOutput()
	if err != nil {
		m.Fatalf("tmux %q: %v: %s", args, err, out)
	}
	return string(out)
}

// pane is one terminal within it that shows what is written to it.
type pane struct {
	m     *multiplexer
	name  string
	in    *os.File
	count int
	raw   []byte
}

func (m *multiplexer) pane(name string) *pane {
	m.Helper()
	fifo := filepath.Join(m.dir, name)
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		m.Fatal(err)
	}
	m.run("-u", "new-session", "-d", "-s", name, "-x", fmt.Sprint(paneCols), "-y", fmt.Sprint(paneRows), "sh", "-c", "stty raw -echo; exec cat "+fifo)
	m.run("set", "-g", "status", "off")
	m.run("resize-window", "-t", name, "-x", fmt.Sprint(paneCols), "-y", fmt.Sprint(paneRows))
	in, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() { _ = in.Close() })
	return &pane{m: m, name: name, in: in}
}

// Write shows p.
func (p *pane) Write(b []byte) (int, error) {
	p.raw = append(p.raw, b...)
	return p.in.Write(b)
}

// reset makes it a new terminal.
func (p *pane) reset() {
	p.raw = nil
	_, _ = p.in.WriteString("\x18\x1b\\\x1b[?1049l\x1bc\x1b[m\x1b[3J")
}

// state is what it shows and how it would go on.
func (p *pane) state() string {
	p.m.Helper()
	p.count++
	mark := fmt.Sprintf("mark-%s-%d", p.name, p.count)
	_, _ = p.in.WriteString("\x1b]2;" + mark + "\a")
	deadline := time.Now().Add(time.Minute)
	for strings.TrimSpace(p.m.run("display", "-p", "-t", p.name, "#{pane_title}")) != mark {
		if time.Now().After(deadline) {
			p.m.Fatalf("the pane did not take %q", p.raw)
		}
	}
	shown := newReference(2*paneCols, paneRows)
	_, _ = shown.Write([]byte(strings.ReplaceAll(strings.TrimSuffix(p.m.run("capture-pane", "-p", "-e", "-N", "-t", p.name), "\n"), "\n", "\r\n")))
	var cells strings.Builder
	for y := range paneRows {
		// It does not show coloured blanks at a line's end that it never had a letter in.
		end := 2 * paneCols
		for end > 0 && (shown.vt.Cell(end-1, y).Char == ' ' || shown.vt.Cell(end-1, y).Char == 0) {
			end--
		}
		for x := range end {
			g := shown.vt.Cell(x, y)
			fmt.Fprintf(&cells, "%c", g.Char)
			if g.Mode != 0 || g.FG != vt10x.DefaultFG || g.BG != vt10x.DefaultBG {
				fmt.Fprintf(&cells, "{%d %d %d}", g.Mode, g.FG, g.BG)
			}
		}
		cells.WriteByte('\n')
	}
	return cells.String() +
		p.m.run("display", "-p", "-t", p.name, "#{cursor_x},#{cursor_y} #{cursor_flag}#{insert_flag}#{wrap_flag}#{origin_flag}#{alternate_on} #{scroll_region_upper},#{scroll_region_lower}")
}

// sample is output that the other reference does not understand.
var sample = []string{
	"日本", "日本語の端末", "e\u0301", "a\u0308x", "한국어", "😀", "❤️", "\x1b[4h", "\x1b[4l", "abc\x1b[2D\x1b[4hXY\x1b[4l", "x\x1b[3b",
	"\x1b[44m\x1b[K", "\x1b[44m\r\n\x1b[m", "\x1b[4:3m", "\x1b[58:5:9m", "\x1b[53m", "\x1b[38:2::9:8:7m", "\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "\x1b[!p", "\x0e", "\x0f", "\x1b)0",
	"\x1b[2;4r", "\x1b[r", "\x1b[?6h", "\x1b[?6l", "\x1b[3;1H\x1b[J", "\x1bH", "\x1b[g", "\t\t", "\x1b[Z", "\x1b[?1049h", "\x1b[?1049l", "\x1b[?47h", "\x1b[?47l", "\x1bP$q\"p\x1b\\", "\xff", "\xe6\x97", "\x85",
	"\r\n", "\r\n", "\r\n$ ", "\r\n$ ", "\r\n$ ", "\x1b[m", "\x1b[m", "\x1b(B\x1b[m\x0f", "\x1b[H\x1b[2J$ ", "\x1b[H\x1b[2J$ ",
	"0123456789012345678901234567890123456789", "012345678901234567890123456789012345678日", "\x1b[10;40H", "\x1b[1;39H日", "\x1b[5D", "\x1b[P\x1b[@", "\b \b", "\x1b[2K\r",
}

func TestAnotherTerminalIsAsIfWeWereNotThereEither(t *testing.T) {
	m := newMultiplexer(t)
	got, want := m.pane("got"), m.pane("want")
	more := output(paneCols, paneRows)
	drawn := 0
	for seed := range uint64(120) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		got.reset()
		want.reset()
		now := time.Now()
		s := New(Config{Out: got, Columns: paneCols, Rows: paneRows, Mode: Always, RTT: func() time.Duration { return 50 * time.Millisecond }})
		sh := &shell{}
		write := func(p string) {
			_, _ = want.Write([]byte(p))
			_, _ = s.write([]byte(p), now)
		}
		write("$ ")
		for range 12 {
			switch rnd.IntN(8) {
			case 0, 1, 2:
				write(sample[rnd.IntN(len(sample))])
			case 3:
				write(more.Example(rnd.IntN(1 << 30)))
			case 4:
				s.Notice("network lost 12 s ago; ~. ends")
			case 5:
				s.ClearNotice()
			case 6, 7:
				for _, k := range []string{"a", "日", "b\x7f", "c", "\x1b[D", "d", "é"}[rnd.IntN(4):] {
					s.typed([]byte(k), now)
					if s.drawn.predicted {
						drawn++
					}
					if !strings.Contains(k, "日") && !strings.Contains(k, "é") {
						var echo bytes.Buffer
						for _, b := range []byte(k) {
							echo.Write(sh.key(b))
						}
						write(echo.String())
					} else if rnd.IntN(2) == 0 {
						write(k)
					}
				}
			}
		}
		s.Close()
		if s.drawn.title != nil {
			t.Logf("seed %d ends within a sequence", seed)
		}
		if g, w := got.state(), want.state(); g != w {
			t.Fatalf("seed %d: the terminal differs.\ngot:\n%s\nwant:\n%s\nsent:\n%q\nprogram:\n%q", seed, g, w, got.raw, want.raw)
		}
	}
	if drawn < 100 {
		t.Errorf("only %d predictions were drawn", drawn)
	}
	t.Logf("%d predictions drawn", drawn)
}
