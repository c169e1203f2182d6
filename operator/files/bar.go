package files

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/filecopy"
	"github.com/tucdesk/tucdesk/internal/terminal"
)

// Of the bar; our choice.
const (
	barEvery  = 200 * time.Millisecond
	barColumn = 80 // where the terminal does not say how wide it is
	// rateOver is the time that the rate is the mean of.
	rateOver = 5 * time.Second
)

// bar shows how far a copy is, in one line of a terminal.
type bar struct {
	out      *os.File // nil where nothing is shown
	progress *filecopy.Progress
	stop     chan struct{}
	done     sync.WaitGroup
	once     sync.Once

	mu    sync.Mutex
	drawn bool     // guarded by mu: there is a line that is not ended
	marks []marked // guarded by mu: of the last rateOver
}

// marked is how much was through at a time.
type marked struct {
	at    time.Time
	bytes uint64
}

// newBar begins to show progress on w, if that is a terminal and it is wanted.
func newBar(w io.Writer, p *filecopy.Progress, wanted bool) *bar {
	b := &bar{progress: p, stop: make(chan struct{})}
	f, ok := w.(*os.File)
	if !wanted || !ok || !terminal.IsTerminal(f) {
		return b
	}
	b.out = f
	b.done.Go(b.run)
	return b
}

func (b *bar) shown() bool { return b.out != nil }

func (b *bar) run() {
	t := time.NewTicker(barEvery)
	defer t.Stop()
	for {
		select {
		case <-b.stop:
			return
		case now := <-t.C:
			b.draw(now)
		}
	}
}

// say does what writes lines of its own, above the bar.
func (b *bar) say(do func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clearLocked()
	do()
}

func (b *bar) clearLocked() {
	if b.drawn {
		fmt.Fprint(b.out, "\r\x1b[K")
		b.drawn = false
	}
}

// close takes the bar away. It may be called more than once.
func (b *bar) close() {
	b.once.Do(func() {
		close(b.stop)
		b.done.Wait()
		b.say(func() {})
	})
}

func (b *bar) draw(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	bytes := b.progress.Bytes.Load()
	if bytes == 0 {
		return // a session is being opened, or an approval waited for
	}
	b.marks = append(b.marks, marked{now, bytes})
	for len(b.marks) > 2 && now.Sub(b.marks[0].at) > rateOver {
		b.marks = b.marks[1:]
	}
	width := barColumn
	if size, err := terminal.SizeOf(b.out); err == nil && size.Cols > 0 {
		width = size.Cols
	}
	fmt.Fprintf(b.out, "\r%s\x1b[K", b.line(width-1))
	b.drawn = true
}

// line is the bar: how much, how fast, how long still, and of which file.
func (b *bar) line(width int) string {
	first, last := b.marks[0], b.marks[len(b.marks)-1]
	rate := 0.0
	if span := last.at.Sub(first.at).Seconds(); span > 0 {
		rate = float64(last.bytes-first.bytes) / span
	}
	var s strings.Builder
	total := b.progress.TotalBytes.Load()
	if total > 0 {
		fmt.Fprintf(&s, "%3d%% ", min(100, last.bytes*100/total))
	}
	fmt.Fprintf(&s, "%s  %s/s", amount(float64(last.bytes)), amount(rate))
	if total > last.bytes && rate > 0 {
		fmt.Fprintf(&s, "  %s left", clock(time.Duration(float64(total-last.bytes)/rate*float64(time.Second))))
	}
	if all := b.progress.TotalFiles.Load(); all > 1 {
		fmt.Fprintf(&s, "  %d of %d files", min(b.progress.Files.Load(), all), all)
	}
	if name := b.progress.Name.Load(); name != nil {
		s.WriteString("  " + terminal.Escape(*name))
	}
	return fit(s.String(), width)
}

// fit cuts a line that the terminal would break.
func fit(s string, width int) string {
	if r := []rune(s); len(r) > width {
		return string(r[:max(width, 0)])
	}
	return s
}

// amount is a number of bytes as people read it.
func amount(n float64) string {
	unit := 0
	for units := "BKMGT"; n >= 1000 && unit < len(units)-1; unit++ {
		n /= 1024
	}
	name := [...]string{"B", "KiB", "MiB", "GiB", "TiB"}[unit]
	if unit == 0 {
		return fmt.Sprintf("%.0f %s", n, name)
	}
	return fmt.Sprintf("%.1f %s", n, name)
}

// clock is a time span as a clock shows it.
func clock(d time.Duration) string {
	s := int64(d.Seconds() + 0.5)
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}
