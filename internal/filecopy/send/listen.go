package send

import (
	"context"
	"io"

	"github.com/tucdesk/tucdesk/internal/filecopy"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

var errOrder = refusal.New(refusal.ProtocolError, "a message of a copy that has no place there")

// listen hears the receiver until it has finished, or is gone.
func (x *Sender) listen(ctx context.Context) {
	defer close(x.over)
	err := x.hear(ctx)
	if err != io.EOF {
		x.cfg.Hangup() // or who sends could wait for a receiver that does not read
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.err = err
}

// hear returns io.EOF after finished.
func (x *Sender) hear(ctx context.Context) error {
	var open answer // hashes of which there are more
	for {
		m, err := x.s.Next()
		if err == io.EOF {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case filecopy.Want:
			if open.hashes != nil && open.id != m.ID || len(open.hashes)+len(m.Hashes) > filecopy.MaxBlocks*filecopy.HashSize {
				return errOrder
			}
			open = answer{id: m.ID, hashes: append(open.hashes, m.Hashes...)}
			if m.More {
				continue
			}
			err = x.answer(ctx, open)
			open = answer{}
		case filecopy.Decline:
			if err = x.decline(m.ID); err == nil {
				err = x.answer(ctx, answer{id: m.ID, no: true})
			}
		case filecopy.Problem:
			x.tell(m)
		case filecopy.Refused:
			err = &refusal.Error{Code: refusal.Plain(m.Code), Detail: m.Text}
		case filecopy.Finished:
			x.mu.Lock()
			x.finished = m
			x.mu.Unlock()
			return io.EOF
		default:
			err = errOrder
		}
		if err != nil {
			return err
		}
	}
}

func (x *Sender) answer(ctx context.Context, a answer) error {
	select {
	case x.answers <- a:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// dropped reports whether the receiver does not want a file any more.
func (x *Sender) dropped(id uint32) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.declined[id]
}

func (x *Sender) decline(id uint32) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.declined) >= filecopy.MaxEntries {
		return errOrder
	}
	x.declined[id] = true
	return nil
}
