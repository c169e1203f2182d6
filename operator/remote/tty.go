package remote

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/operator/screen"
)

// attachTerminal asks for a pseudo-terminal like ours, and where ours is real
// puts it into raw mode and follows its size.
func (p *player) attachTerminal(ctx context.Context, mode screen.Mode) (restore func(), err error) {
	size := terminal.Size{Cols: 80, Rows: 24}
	real := terminal.IsTerminal(p.io.In)
	if real {
		if s, err := terminal.SizeOf(p.io.In); err == nil {
			size = s
		}
	}
	if err := p.ch.RequestPTY(session.PTY{Term: termName(), Size: remoteSize(size)}); err != nil {
		return nil, err
	}
	if !real {
		return func() {}, nil
	}
	back, err := terminal.Raw(p.io.In)
	if err != nil {
		return nil, err
	}
	p.raw = true
	p.pause = func() error { return p.suspend(back) }
	restoreTalk := func() {}
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	if out, ok := p.io.Out.(*os.File); ok && terminal.IsTerminal(out) {
		p.screen = screen.New(screen.Config{
			Out: out, Columns: size.Cols, Rows: size.Rows, Mode: mode,
			RTT: func() time.Duration { return p.conn.Path().RTT },
		})
		if late := p.around.late; late != nil {
			before := late.become(saying{p.screen})
			restoreTalk = func() { late.become(before) }
		}
		done.Go(func() { _ = p.screen.Run(ctx) })
		done.Go(func() { p.watchPath(ctx) })
	}
	done.Go(func() {
		for s := range terminal.Resizes(ctx, p.io.In) {
			if p.screen != nil {
				p.screen.Resize(s.Cols, s.Rows)
			}
			if p.ch.WindowChange(remoteSize(s)) != nil {
				return
			}
		}
	})
	return func() { // the terminal first: the session may be stuck
		cancel()
		if p.screen != nil {
			p.screen.Close()
		}
		restoreTalk()
		back()
		select {
		case <-p.gone: // in the middle of a line, as a rule
			p.io.Say("")
		default:
		}
		done.Wait()
	}, nil
}

// suspend gives the terminal back and stops this process, as a shell's job. The
// session stays; what the program writes waits there. When the person goes on, the
// terminal may have another size.
func (p *player) suspend(back func()) error {
	_, _ = io.WriteString(p.talk(), "\r\nsuspended\r\n")
	back()
	stopped := terminal.Suspend()
	if _, err := terminal.Raw(p.io.In); err != nil {
		return err
	}
	if stopped != nil {
		return stopped
	}
	size, err := terminal.SizeOf(p.io.In)
	if err != nil {
		return nil
	}
	if p.screen != nil {
		p.screen.Resize(size.Cols, size.Rows)
	}
	return p.ch.WindowChange(remoteSize(size))
}

func remoteSize(s terminal.Size) session.Size {
	return session.Size{Columns: uint16(max(0, s.Cols)), Rows: uint16(max(0, s.Rows))}
}

// noticeEvery is how often the notice of a lost path counts on, and how long a
// path may be gone before there is one: most come back sooner. Our choice.
const noticeEvery = time.Second

// watchPath says on the terminal that nothing gets through, for as long as that
// is so.
func (p *player) watchPath(ctx context.Context) {
	tick := time.NewTicker(noticeEvery)
	defer tick.Stop()
	for {
		changed, way := p.conn.PathChanged(), p.conn.Path()
		p.screen.Hold(way.Lost)
		if gone := time.Since(way.Since); way.Lost && gone >= noticeEvery {
			p.screen.Notice(fmt.Sprintf("network lost %s ago; what you type is kept; ~. ends", gone.Truncate(time.Second)))
		} else {
			p.screen.ClearNotice()
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
		}
	}
}

// typing tells the screen what is about to be sent.
type typing struct{ *screen.Screen }

// Write takes keys.
func (t typing) Write(keys []byte) (int, error) {
	t.Typed(keys)
	return len(keys), nil
}

// saying lets the screen say what is written in lines that end as on a raw
// terminal.
type saying struct{ *screen.Screen }

// Write takes lines.
func (s saying) Write(text []byte) (int, error) {
	s.Say(strings.ReplaceAll(strings.TrimPrefix(string(text), "\r\n"), "\r\n", "\n"))
	return len(text), nil
}
