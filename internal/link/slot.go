package link

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tucdesk/tucdesk/internal/path"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// Times of keeping a relay; our choice.
const (
	// redialFirst and redialMost are between two races on one relay; the pause
	// doubles, and each is up to a quarter longer or shorter, so that a relay that
	// comes back is not met by everybody at once.
	redialFirst = 250 * time.Millisecond
	redialMost  = 30 * time.Second
	// settled is how long an allocation lives before the pause begins anew.
	settled = 10 * time.Second
	// upgradeFirst and upgradeMost are between two tries of a better kind than
	// the one in use; a datagram that was lost decides nothing for long, a
	// firewall is asked less and less.
	upgradeFirst = time.Second
	upgradeMost  = 5 * time.Minute
)

// slot is one place in the credential's list of relays. Its goroutine keeps an
// allocation there.
type slot struct {
	link *Link
	via  path.Via
	wake chan struct{} // cap 1: something below has changed
	gone chan struct{} // closed when keep has returned

	current atomic.Pointer[allocation] // nil while it is down

	mu       sync.Mutex
	endpoint wire.RelayEndpoint // guarded by mu; zero: no such relay
	wanted   bool               // guarded by mu; by tend
	idle     time.Time          // guarded by mu; since when it is not wanted; by tend
	moved    bool               // guarded by mu; the network has changed
	kind     Kind               // guarded by mu; in use, or used last
	name     string             // guarded by mu; of that
	err      error              // guarded by mu; of the last race
	down     time.Time          // guarded by mu; since when there is no allocation
}

func newSlot(l *Link, number uint8) *slot {
	return &slot{
		link: l, via: path.Via{Relay: number}, down: time.Now(),
		wake: make(chan struct{}, 1), gone: make(chan struct{}),
	}
}

func named(e wire.RelayEndpoint) string {
	for _, w := range ways(e, "") {
		return w.addr
	}
	return ""
}

// state reports whether there is such a relay.
func (s *slot) state() (RelayState, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := s.name
	if name == "" {
		name = named(s.endpoint)
	}
	return RelayState{Via: s.via, Kind: s.kind, Name: name, Up: s.current.Load() != nil, Err: s.err}, s.endpoint != wire.RelayEndpoint{}
}

// isAsked reports whether datagrams can be sent: behind the request, at least.
func (s *slot) isAsked() bool { return s.current.Load() != nil }

// isGranted reports whether the relay has said yes.
func (s *slot) isGranted() bool {
	a := s.current.Load()
	return a != nil && a.granted.Load()
}

func (s *slot) write(b []byte, size int) {
	if a := s.current.Load(); a != nil {
		a.write(b, size)
	}
}

func (s *slot) whole(b []byte) {
	if a := s.current.Load(); a != nil {
		a.whole(b)
	}
}

// keep holds an allocation as long as the slot is wanted.
func (s *slot) keep() {
	defer close(s.gone)
	pause := redialFirst
	for s.awaitWanted() {
		s.takeMoved()
		e := s.relay()
		last := s.link.lastKind()
		a, err := s.race(s.link.ctx, e, ways(e, last), leadFor(last))
		if err == errAhead {
			s.awaitCredential() // that was only to be quicker
			continue
		}
		if err != nil {
			if !s.lost(e, err) {
				continue
			}
			if s.link.ctx.Err() == nil {
				s.link.cfg.Logger.Info("relay cannot be reached", "relay", s.via.String(), "error", err)
			}
			if !s.rest(jitter(pause)) {
				pause = redialFirst
			} else {
				pause = min(2*pause, redialMost)
			}
			continue
		}
		began := time.Now()
		err = s.serve(a, e)
		s.lost(e, err)
		if time.Since(began) > settled {
			pause = redialFirst
		} else if err != nil {
			s.rest(jitter(pause))
			pause = min(2*pause, redialMost)
		}
	}
}

// awaitWanted reports false when the link has ended.
func (s *slot) awaitWanted() bool {
	for {
		if s.link.ctx.Err() != nil {
			return false
		}
		if s.isWanted() {
			return true
		}
		select {
		case <-s.wake:
		case <-s.link.ctx.Done():
		}
	}
}

// leadFor is the head start of a race in a network where last is known to work.
func leadFor(last Kind) time.Duration {
	if last == "" {
		return shortStart
	}
	return headStart
}

// awaitCredential waits until there is one, or another list of relays.
func (s *slot) awaitCredential() {
	select {
	case <-s.link.entitled:
	case <-s.wake:
	case <-s.link.ctx.Done():
	}
}

func (s *slot) isWanted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wanted && s.endpoint != wire.RelayEndpoint{}
}

func (s *slot) relay() wire.RelayEndpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.endpoint
}

// takeMoved reports, once, that the network has changed.
func (s *slot) takeMoved() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.moved
	s.moved = false
	return was
}

// rest waits and reports false when something has changed meanwhile.
func (s *slot) rest(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.wake:
	case <-s.link.ctx.Done():
	}
	return false
}

func jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2)
}

// offer lets data follow the request for a before the relay has granted it, where
// there is no other allocation; lost, or use, follow.
func (s *slot) offer(a *allocation) {
	s.mu.Lock()
	offered := s.current.CompareAndSwap(nil, a)
	if offered {
		s.kind, s.name, s.err = a.kind, a.name, nil
	}
	s.mu.Unlock()
	if offered {
		s.link.changed()
	}
}

// withdraw takes back what offer has done.
func (s *slot) withdraw(a *allocation) {
	if s.current.CompareAndSwap(a, nil) {
		s.link.changed()
	}
}

// use makes a the allocation in use.
func (s *slot) use(a *allocation) {
	s.mu.Lock()
	s.current.Store(a)
	s.kind, s.name, s.err = a.kind, a.name, nil
	s.mu.Unlock()
	s.link.cfg.Logger.Info("relay in use", "relay", s.via.String(), "kind", string(a.kind), "name", a.name)
	s.link.remember(a.kind)
	s.link.changed()
}

// lost says that there is no allocation on e any more, and why. It reports false
// when the slot has got another relay, of which err says nothing.
func (s *slot) lost(e wire.RelayEndpoint, err error) bool {
	s.mu.Lock()
	same := s.endpoint == e
	if s.current.Swap(nil) != nil || s.err == nil {
		s.down = time.Now()
	}
	if err != nil && same {
		s.err = err
	}
	s.mu.Unlock()
	s.link.changed()
	return same
}

// serve keeps a, or a better one, until it is lost or may go. An error says why
// it was lost.
func (s *slot) serve(a *allocation, e wire.RelayEndpoint) error {
	s.use(a)
	defer func() {
		s.current.Store(nil)
		a.close()
	}()
	wait := upgradeFirst
	upgrade := time.NewTimer(wait)
	defer upgrade.Stop()
	for {
		select {
		case <-a.done:
			return a.err
		case <-s.link.ctx.Done():
			return nil
		case <-s.wake:
			if !s.isWanted() || s.relay() != e {
				return nil
			}
			if !s.takeMoved() {
				continue
			}
			if a.isMoved() {
				return nil
			}
			poke(a.urgent)
			wait = upgradeFirst
			upgrade.Reset(wait)
		case <-upgrade.C:
			better := betterThan(a.kind, e)
			if len(better) == 0 {
				continue
			}
			if b := s.upgrade(a, e, better); b != nil {
				old := a
				a = b
				s.use(a)
				old.close()
			}
			wait = min(2*wait, upgradeMost)
			upgrade.Reset(jitter(wait))
		}
	}
}

// upgradeGrace is how long an upgrade may go on when the allocation in use has
// ended: the relay ends it when it gives our place to the better kind.
const upgradeGrace = 500 * time.Millisecond

// upgrade tries better kinds while a goes on, and gives up soon when a does not.
func (s *slot) upgrade(a *allocation, e wire.RelayEndpoint, better []way) *allocation {
	ctx, cancel := context.WithTimeout(s.link.ctx, perPass)
	defer cancel()
	s.link.wg.Go(func() {
		select {
		case <-a.done:
			sleep(ctx, upgradeGrace)
			cancel()
		case <-ctx.Done():
		}
	})
	b, err := s.race(ctx, e, better, headStart)
	if err != nil {
		s.link.cfg.Logger.Debug("no better way to the relay", "relay", s.via.String(), "error", err)
		return nil
	}
	return b
}

// class orders kinds by what they do to a session: a stream holds everything
// back for one lost segment, and only UDP shares its socket with direct paths.
func class(k Kind) int {
	switch k {
	case RelayUDP:
		return 0
	case RelayDTLS:
		return 1
	}
	return 2
}

// betterThan lists the ways to e that are worth leaving k for.
func betterThan(k Kind, e wire.RelayEndpoint) (list []way) {
	for _, w := range ways(e, "") {
		if class(w.kind) < class(k) {
			list = append(list, w)
		}
	}
	return list
}

// isMoved reports whether we would leave for the relay from another address than
// when the allocation was made, so that the relay does not know us any more.
func (a *allocation) isMoved() bool {
	now := source(a.remote)
	return now.IsValid() && a.local.IsValid() && now != a.local
}
