package verb

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/terminal"
)

// showEvery is how often a line of progress changes; our choice.
const showEvery = 200 * time.Millisecond

// Progress is one line on a person's terminal that says how far something long has
// come. Where nobody looks, in a script or a pipe, it writes nothing.
type Progress struct {
	to    io.Writer // nil where nobody looks
	shown bool
	next  time.Time
}

// NewProgress looks at the error output. End has to be called. wanted is false when the answer itself
// goes to the terminal, where a line of progress would stand in the middle of it.
func NewProgress(tio *cli.IO, wanted bool) *Progress {
	p := &Progress{}
	if f, ok := tio.Err.(*os.File); ok && wanted && terminal.IsTerminal(f) {
		p.to = f
	}
	return p
}

// Show replaces the line. Spaces erase the one before, on every terminal.
func (p *Progress) Show(format string, args ...any) {
	if p.to != nil {
		p.shown, p.next = true, time.Now().Add(showEvery)
		fmt.Fprintf(p.to, "\r%-72s\r", fmt.Sprintf(format, args...))
	}
}

// End takes the line away, once.
func (p *Progress) End() {
	if p.shown {
		p.Show("")
		p.shown = false
	}
}

// Reader counts what is read of r, which has size bytes, or 0 if that is not known,
// under the word done, such as "exported", and ends
// with ctx: what computes between two reads hears of Ctrl-C that way.
func (p *Progress) Reader(ctx context.Context, r io.Reader, done string, size int64) io.Reader {
	return &countedReader{ctx: ctx, r: r, p: p, done: done, size: size}
}

type countedReader struct {
	ctx  context.Context
	r    io.Reader
	p    *Progress
	done string
	n    int64
	size int64
}

// Read implements io.Reader.
func (c *countedReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(b)
	c.n += int64(n)
	switch {
	case c.p.to == nil || time.Now().Before(c.p.next):
	case c.size > 0:
		c.p.Show("%s %d%% of %s", c.done, 100*c.n/c.size, megabytes(c.size))
	default:
		c.p.Show("%s %s", c.done, megabytes(c.n))
	}
	return n, err
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
