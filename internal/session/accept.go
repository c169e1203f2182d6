package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tucdesk/tucdesk/crypto/handshake"
	"github.com/tucdesk/tucdesk/crypto/seal"
	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/internal/path"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/transport"
)

// Limits before keys exist; our choice. Until then anybody on the path can send
// what looks right.
const (
	maxEarly    = 8    // sealed datagrams kept that overtook CONFIRM
	maxConfirms = 1024 // wrong CONFIRMs that are shown to the supervisor
)

// AcceptConfig is what the agent's session process brings to a session.
type AcceptConfig struct {
	Link  Link   // taken over: the session closes it, also when Accept fails
	Index uint32 // handshake.Agent.Index: datagrams for others are not looked at
	// Confirm shows one CONFIRM to who holds the handshake, the supervisor, and
	// returns the keys and what to say in READY. An error means that this was
	// not it; Accept goes on waiting. It is called until it succeeds once, from
	// Accept's goroutine. The session erases the keys.
	Confirm func(m3 []byte) (*handshake.Keys, Ready, error)
	Many    bool // for forwards: what the other end opens may be thousands of channels
	// Logger gets warnings; nil discards them. Never keys or contents.
	Logger *slog.Logger
}

// Accept starts a session as the agent: it waits for CONFIRM, answers READY and
// connects the streams. ctx bounds Accept, not the session.
//
// Refusals: Unreachable when no CONFIRM came within AcceptLimit, HandshakeFailed
// after too many wrong ones.
func Accept(ctx context.Context, cfg AcceptConfig) (*Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := waiter{cfg: cfg}
	if err := w.wait(ctx); err != nil {
		_ = cfg.Link.Close()
		return nil, fmt.Errorf("accepting a session: %w", err)
	}
	c, err := newConn(seal.Agent, cfg.Link, w.keys, cfg.Logger)
	if err != nil {
		_ = cfg.Link.Close()
		return nil, fmt.Errorf("accepting a session: %w", err)
	}
	c.stray.Store(w.stray)
	c.ready, c.m3, c.readyBody = w.ready, w.m3, w.ready.marshal(c.h4)
	c.pending = w.early
	c.paths.refresh(c.link, c.now)
	c.paths.arrived(arrival{via: w.from, bytes: len(w.m3), newest: true}, c.now)
	c.started = true
	if ready := w.ready.MaxResume; ready > 0 {
		c.resume = ready
	}
	stop := context.AfterFunc(c.ctx, cancel)
	defer stop()

	t, err := c.answer(ctx, loadOf(cfg.Many))
	if err != nil {
		if cause := context.Cause(c.ctx); cause != nil {
			err = cause
		}
		c.fail(err)
		c.teardown()
		return nil, fmt.Errorf("accepting a session: %w", err)
	}
	c.run(t)
	return c, nil
}

func (c *Conn) answer(ctx context.Context, load transport.Load) (*transport.Conn, error) {
	c.readyAt = time.Now()
	if err := c.sendFrame(frameReady, c.readyBody); err != nil {
		return nil, err
	}
	return transport.Accept(ctx, c, load)
}

// waiter is the time before keys exist.
type waiter struct {
	cfg   AcceptConfig
	keys  *handshake.Keys
	ready Ready
	m3    []byte
	early []link.Datagram
	from  path.Via // where the right CONFIRM came from
	wrong int
	stray uint64
}

func (w *waiter) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, AcceptLimit)
	defer cancel()
	for {
		batch, err := w.cfg.Link.ReadBatch(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			return refusal.New(refusal.Unreachable, "the operator did not confirm through the relay")
		}
		if err != nil {
			return err
		}
		for _, d := range batch {
			w.look(d.B, d.Via)
		}
		if w.keys != nil {
			return nil
		}
		if w.wrong >= maxConfirms {
			return refusal.New(refusal.HandshakeFailed, "too many wrong CONFIRM messages")
		}
	}
}

// look handles one datagram; the batch is looked at to its end, because packets
// of the transport may be behind CONFIRM in it.
func (w *waiter) look(d []byte, v path.Via) {
	if index, ok := seal.Index(d); ok && index == w.cfg.Index {
		if len(w.early) < maxEarly && len(d) <= MaxDatagram {
			w.early = append(w.early, link.Datagram{Via: v, B: bytes.Clone(d)})
			return
		}
	}
	index, err := handshake.ParseConfirmIndex(d)
	if err != nil || index != w.cfg.Index || w.keys != nil {
		w.stray++
		return
	}
	m3 := bytes.Clone(d)
	keys, ready, err := w.cfg.Confirm(m3)
	if err != nil {
		w.wrong++
		w.stray++
		return
	}
	w.keys, w.ready, w.m3, w.from = keys, ready, m3, v
}
