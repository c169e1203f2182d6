package link

import (
	"context"
	"fmt"
	"strings"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// Open opens a link. It returns when the first relay works: datagrams can be sent
// and received, whether the other end is there already nobody knows. The others
// follow in the background, and whatever is lost later is dialled again for the
// life of the link.
//
// Refusal: RelayFailed when every relay failed, which names each leg and why.
func Open(ctx context.Context, cfg Config) (*Link, error) {
	l := Begin(cfg)
	err := l.entitle(cfg.Relay)
	if err == nil {
		err = l.Proven(ctx)
	}
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	l.live.Store(true)
	l.changed() // whoever opened the link has not looked yet
	return l, nil
}

// Begin opens a link that has no credential yet. It dials the relays that
// cfg.Relay names, from an earlier session maybe, and goes with each as far as one
// gets without a credential: connections stand and the relay has given out its
// challenge. What else cfg.Relay says is not used. Use makes a link of it; Close
// ends it, whether Use was called or not.
//
// It is for the time in which the credential is on its way. Nothing is signed, so
// nothing of the session goes to a relay that Use does not name again.
func Begin(cfg Config) *Link {
	if n := len(cfg.Relay.Endpoints); n > wire.MaxRelayEndpoints {
		cfg.Relay.Endpoints = nil // it is a hint
	}
	l := newLink(cfg)
	l.start()
	return l
}

// Use gives the link its credential and list of relays, once. It returns when
// datagrams can be sent: the first relay has been asked for a place, and what is
// written follows that request in the same order. Whether the relay grants it,
// Proven says.
//
// Refusal: RelayFailed when every relay failed, which names each leg and why.
func (l *Link) Use(ctx context.Context, cred wire.Relay) error {
	l.live.Store(true) // answers come before Proven returns
	if err := l.entitle(cred); err != nil {
		return err
	}
	if err := l.first(ctx, (*slot).isAsked); err != nil {
		return err
	}
	l.changed() // whoever opened the link has not looked yet
	return nil
}

// Proven waits until a relay has granted what Use asked for.
//
// Refusal: RelayFailed when every relay failed, which names each leg and why.
func (l *Link) Proven(ctx context.Context) error { return l.first(ctx, (*slot).isGranted) }

// entitle lets the races pass their gates, with the relays of cred alone.
func (l *Link) entitle(cred wire.Relay) error {
	n := len(cred.Endpoints)
	if n == 0 || n > wire.MaxRelayEndpoints {
		return refusal.New(refusal.RelayFailed, "the credential names %d relays; want 1 to %d", n, wire.MaxRelayEndpoints)
	}
	// The list comes first: no race on a relay that it does not name finds the gate
	// open.
	l.list(cred.Endpoints)
	l.mu.Lock()
	l.cred = cred
	l.mu.Unlock()
	l.once.Do(func() { close(l.entitled) })
	return nil
}

// isEntitled reports whether there is a credential.
func (l *Link) isEntitled() bool {
	select {
	case <-l.entitled:
		return true
	default:
		return false
	}
}

// first waits until there is a relay that will do, or every one has failed.
func (l *Link) first(ctx context.Context, will func(*slot) bool) error {
	for {
		more := l.progress()
		failed, wanted := []string{}, 0
		for _, s := range l.slots {
			if will(s) {
				return nil
			}
			state, used := s.state()
			if used {
				wanted++
			}
			if state.Err != nil && !state.Up {
				failed = append(failed, fmt.Sprintf("%v: %v", s.via, state.Err))
			}
		}
		if len(failed) == wanted {
			return refusal.New(refusal.RelayFailed, "%s", strings.Join(failed, "; "))
		}
		select {
		case <-more:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-l.ctx.Done():
			return errDone
		}
	}
}

// progress is closed with the next change of the relays.
func (l *Link) progress() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.step
}

// changed lets whoever waits for Changed look again, and everybody in here.
func (l *Link) changed() {
	poke(l.poke)
	poke(l.kick)
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.step)
	l.step = make(chan struct{})
}
