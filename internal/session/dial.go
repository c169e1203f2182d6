package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tucdesk/tucdesk/crypto/handshake"
	"github.com/tucdesk/tucdesk/crypto/seal"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/transport"
)

// Times of the start; our choice, within protocol 2.7.
const (
	confirmMin = 5 * time.Millisecond // first pause between two CONFIRMs, doubled each time
	confirmMax = time.Second
	// DialLimit is how long the agent may take to answer: a round trip of 10 s, as over
	// links that are slow or full, and some of ours that are lost.
	DialLimit = 15 * time.Second
	// AcceptLimit is how long the operator may take to send CONFIRM: it fetches
	// its relay credential and allocates in that time.
	AcceptLimit = 30 * time.Second
)

// DialConfig is what the operator brings to a session.
type DialConfig struct {
	Link Link            // taken over: the session closes it, also when Dial fails
	M3   []byte          // CONFIRM, from handshake.Operator.Confirm
	Keys *handshake.Keys // likewise; erased when Dial returns
	// Resume is how long the session is kept without any way to the other end; 0
	// is DefaultResume. The agent's own limit, from the policy, may end it before.
	Resume time.Duration
	Many   bool // for forwards: what the other end opens may be thousands of channels
	// Logger gets warnings; nil discards them. Never keys or contents.
	Logger *slog.Logger
}

// Dial starts a session as the operator: it repeats CONFIRM until READY has come
// and its h4 is the handshake's. ctx bounds Dial, not the session.
//
// Refusals: Unreachable when nothing came back within DialLimit, HandshakeFailed
// for a wrong h4, and whatever code the agent closed the session with.
func Dial(ctx context.Context, cfg DialConfig) (*Conn, error) {
	c, err := newConn(seal.Operator, cfg.Link, cfg.Keys, cfg.Logger)
	if err != nil {
		_ = cfg.Link.Close()
		return nil, fmt.Errorf("starting a session: %w", err)
	}
	if cfg.Resume > 0 {
		c.resume = cfg.Resume
	}
	c.paths.refresh(c.link, c.now)
	ctx, cancel := context.WithTimeout(ctx, DialLimit)
	defer cancel()
	stop := context.AfterFunc(c.ctx, cancel) // CLOSE instead of READY
	defer stop()

	t, err := c.connect(ctx, cfg.M3, loadOf(cfg.Many))
	if err != nil {
		err = c.dialError(err)
		c.fail(err)
		c.teardown()
		return nil, fmt.Errorf("starting a session: %w", err)
	}
	c.run(t)
	return c, nil
}

// connect sends CONFIRM and behind it the transport's first packet, which holds
// no application data, and waits for READY and the transport.
func (c *Conn) connect(ctx context.Context, m3 []byte, load transport.Load) (*transport.Conn, error) {
	if err := c.sendPlain(m3); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	repeated := make(chan struct{})
	go func() {
		defer close(repeated)
		c.repeatConfirm(ctx, m3)
	}()
	defer func() { cancel(); <-repeated; c.releaseFirst() }()

	t, err := transport.Dial(ctx, c, load)
	if err != nil {
		return nil, err
	}
	select {
	case <-c.readyCh:
		return t, nil
	case <-ctx.Done():
		_ = t.Close()
		return nil, ctx.Err()
	}
}

func (c *Conn) repeatConfirm(ctx context.Context, m3 []byte) {
	for wait := confirmMin; ; wait = min(2*wait, confirmMax) {
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-c.readyCh:
			t.Stop()
			return
		case <-t.C:
			if c.sendPlain(m3) == nil {
				_ = c.sendFirst()
			}
		}
	}
}

func (c *Conn) dialError(err error) error {
	if cause := context.Cause(c.ctx); cause != nil {
		return cause
	}
	select {
	case <-c.readyCh:
		return err
	default:
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	return refusal.New(refusal.Unreachable, "the agent did not answer through the relay")
}
