package worker

import (
	"context"
	"errors"
	"io"

	"github.com/tucdesk/tucdesk/internal/drive"
	"github.com/tucdesk/tucdesk/internal/filecopy"
	"github.com/tucdesk/tucdesk/internal/filecopy/receive"
	"github.com/tucdesk/tucdesk/internal/filecopy/send"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

// copyFiles serves one copy: the operator says which way it goes, and the policy is
// asked about that way alone.
func (w *worker) copyFiles(ctx context.Context, ch *session.ServerChannel, home string) error {
	s := filecopy.NewStream(idling{ch.Stdin(), w.idle}, busy{ch.Stdout(), w.idle})
	m, err := s.Next()
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case filecopy.Get:
		err = w.sendFiles(ctx, s, ch, m, home)
	case filecopy.Put:
		err = w.receiveFiles(ctx, s, m, home)
	default:
		err = refusal.New(refusal.ProtocolError, "a copy begins with what is to be copied")
	}
	return err
}

// refuseCopy says why a copy does not begin.
func refuseCopy(s *filecopy.Stream, err error) error {
	code, why := filecopy.Reason(err)
	return errors.Join(err, s.Say(filecopy.Refused{Code: code, Text: why}))
}

func (w *worker) sendFiles(ctx context.Context, s *filecopy.Stream, ch *session.ServerChannel, m filecopy.Get, home string) error {
	yes, err := w.may(ctx, wire.Action(policy.CopyRead), "")
	if err == nil {
		err = onDrives(home, m.Paths...)
	}
	var paths []string
	if err == nil {
		paths, err = send.Expand(m.Paths, home, yes.Roots)
	}
	if err != nil {
		return refuseCopy(s, err)
	}
	if err := s.Say(filecopy.Ready{}); err != nil {
		return err
	}
	_, err = send.Run(ctx, s, send.Config{Paths: paths, Folders: yes.Roots, Flags: m.Flags, Hangup: func() { _ = ch.Close() }})
	return err
}

// receiveFiles: who may write and not read does not learn what is there either, nor
// what other operators have not finished.
func (w *worker) receiveFiles(ctx context.Context, s *filecopy.Stream, m filecopy.Put, home string) error {
	yes, err := w.may(ctx, wire.Action(policy.CopyWrite), "")
	if err == nil {
		err = onDrives(home, m.Path)
	}
	if err != nil {
		return refuseCopy(s, err)
	}
	read, no := w.may(ctx, wire.Action(policy.CopyRead), "")
	r, err := receive.Open(receive.Config{Path: send.Absolute(m.Path, home), Folders: yes.Roots, Flags: m.Flags, Special: yes.Special, Look: no == nil, Readable: read.Roots, Mark: yes.Mark})
	if err != nil {
		return refuseCopy(s, err)
	}
	if err := s.Say(filecopy.Ready{}); err != nil {
		r.Close()
		return err
	}
	_, err = r.Run(ctx, s)
	return err
}

// onDrives refuses paths that lead to another machine, before anything looks at them.
func onDrives(home string, paths ...string) error {
	for _, p := range paths {
		if !drive.Own(send.Absolute(p, home)) {
			return refusal.New(refusal.BadPath, "a path is on no drive of this host")
		}
	}
	return nil
}

// busy keeps the session from being idle while the operator takes what is sent.
type busy struct {
	w    io.Writer
	idle *idleTimer
}

// Write hands on, and notes that the operator took something.
func (b busy) Write(p []byte) (int, error) {
	n, err := b.w.Write(p)
	if n > 0 {
		b.idle.touch()
	}
	return n, err
}
