package files

import (
	"context"
	"io"
	"path"
	"sync"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/filecopy"
	"github.com/tucdesk/tucdesk/internal/filecopy/receive"
	"github.com/tucdesk/tucdesk/internal/filecopy/send"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/operator/remote"
)

// with opens a session and begins a copy in it by m.
func (c *copying) with(ctx context.Context, host, user string, m filecopy.Message, f func(*filecopy.Stream, *session.Channel) error) error {
	return cli.About(host, remote.WithFiles(ctx, &c.Options, c.io, c.ask(host, user), filecopy.Subsystem, func(ch *session.Channel) error {
		s := filecopy.NewStream(ch.Stdout(), ch.Stdin())
		if err := s.Say(m); err != nil {
			return err
		}
		answer, err := s.Next()
		if err != nil {
			return err
		}
		switch answer := answer.(type) {
		case filecopy.Ready:
		case filecopy.Refused:
			return notBegun(host, user, m, answer)
		default:
			return refusal.New(refusal.ProtocolError, "the machine did not say whether the copy may begin")
		}
		err = f(s, ch)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}))
}

// up sends files of this machine.
func (c *copying) up(ctx context.Context, g group, target place, flags filecopy.Flags) (done filecopy.Finished, err error) {
	cfg := send.Config{Flags: flags, Progress: &c.progress, Problem: c.note}
	if g.paths[0] == standard {
		cfg.Stream, cfg.Name = c.io.In, streamName(target.path)
	} else if cfg.Paths, err = local(g.paths); err != nil {
		return done, err
	}
	err = c.with(ctx, target.host, target.user, filecopy.Put{Flags: flags, Path: target.path}, func(s *filecopy.Stream, ch *session.Channel) error {
		cfg.Hangup = func() { _ = ch.Close() }
		done, err = send.Run(ctx, s, cfg)
		return blame(target.host, target.user, err)
	})
	return done, err
}

// streamName is what standard input is called in a folder: it has no name, and the
// last element of the target is one where the target is the file.
func streamName(target string) string {
	if base := path.Base(target); filecopy.CheckName("", base) == nil {
		return base
	}
	return "stdin"
}

// down receives files of a machine, which are hostile until they are compared.
func (c *copying) down(ctx context.Context, g group, target place, flags filecopy.Flags) (done filecopy.Finished, err error) {
	cfg := receive.Config{Path: target.path, Flags: flags, Asked: g.paths, Special: true, Look: true, Progress: &c.progress, Problem: c.note}
	if target.standard() {
		cfg.Sink = c.io.Out
	}
	r, err := receive.Open(cfg)
	if err != nil {
		code, why := filecopy.Reason(err)
		return done, notTaken(target, flags, code, why)
	}
	defer r.Close()
	err = c.with(ctx, g.host, g.user, filecopy.Get{Flags: flags, Paths: g.paths}, func(s *filecopy.Stream, ch *session.Channel) error {
		ctx, over := context.WithCancel(ctx)
		var end sync.WaitGroup
		defer end.Wait()
		end.Go(func() {
			_, _ = ch.Wait()
			over()
		})
		defer ch.Close()
		done, err = r.Run(ctx, s)
		return blame(g.host, g.user, err)
	})
	return done, err
}

// across passes files of one machine to another.
func (c *copying) across(ctx context.Context, g group, target place, flags filecopy.Flags) (done filecopy.Finished, err error) {
	err = c.with(ctx, target.host, target.user, filecopy.Put{Flags: flags, Path: target.path}, func(to *filecopy.Stream, toCh *session.Channel) error {
		return c.with(ctx, g.host, g.user, filecopy.Get{Flags: flags, Paths: g.paths}, func(from *filecopy.Stream, fromCh *session.Channel) error {
			b := between{c: c, from: from, to: to, source: g, target: target, gate: filecopy.NewGate(g.paths, c.recursive)}
			done, err = b.run(toCh, fromCh)
			return err
		})
	})
	return done, err
}

// between passes messages of two machines on. What the sender says is looked at: it
// is asked for some names, and the receiver cannot know which.
type between struct {
	c        *copying
	from, to *filecopy.Stream
	source   group
	target   place
	gate     *filecopy.Gate
}

func (b *between) run(ends ...io.Closer) (done filecopy.Finished, err error) {
	cut := func() {
		for _, e := range ends {
			_ = e.Close()
		}
	}
	var wg sync.WaitGroup
	var sent error
	wg.Go(func() {
		if sent = b.there(); sent != nil {
			cut()
		}
	})
	done, err = b.back()
	cut() // after the receiver's last word there is nothing to pass on
	wg.Wait()
	if err != nil && sent != nil && refusal.Of(sent) != "" {
		err = sent
	}
	return done, err
}

// there passes on what the sender says, up to its end.
func (b *between) there() error {
	for {
		m, err := b.from.Next()
		if err == nil {
			err = b.gate.Pass(m)
		}
		if err != nil {
			return blame(b.source.host, b.source.user, err)
		}
		b.count(m)
		if err := b.to.Send(m); err != nil {
			return err
		}
		_, end := m.(filecopy.End)
		if end || !b.from.Buffered() {
			if err := b.to.Flush(); err != nil {
				return err
			}
		}
		if end {
			return nil
		}
	}
}

// count shows how far the copy is, by what the sender says.
func (b *between) count(m filecopy.Message) {
	p := &b.c.progress
	if name, ok := filecopy.EntryName(m); ok {
		p.Note(name)
	}
	switch m := m.(type) {
	case filecopy.Small:
		p.Files.Add(1)
		p.Bytes.Add(uint64(len(m.Data)))
	case filecopy.Data:
		p.Bytes.Add(uint64(len(m.Bytes)))
	case filecopy.Zeros:
		p.Bytes.Add(m.Length)
	case filecopy.Close:
		p.Files.Add(1)
	case filecopy.Total:
		p.TotalFiles.Store(m.Files)
		p.TotalBytes.Store(m.Bytes)
	case filecopy.Problem:
		b.c.note(m)
	}
}

// back passes on what the receiver says, up to its last word.
func (b *between) back() (filecopy.Finished, error) {
	for {
		m, err := b.to.Next()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return filecopy.Finished{}, blame(b.target.host, b.target.user, err)
		}
		if p, ok := m.(filecopy.Problem); ok {
			b.c.note(p)
		}
		if err := b.from.Say(m); err != nil {
			return filecopy.Finished{}, err
		}
		if done, ok := m.(filecopy.Finished); ok {
			return done, nil
		}
	}
}
