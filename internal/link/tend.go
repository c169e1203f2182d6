package link

import (
	"slices"
	"time"

	"github.com/tucdesk/tucdesk/internal/wire"
)

// How many relays are kept warm; our choice. Two, so that the loss of one is no
// more than a change of path. Not all: every allocation costs its relay a place,
// and both ends some traffic while idle.
const warm = 2

// Times of spares; our choice.
const (
	// spareAfter is how long a relay may be down before the next in the list
	// stands in for it.
	spareAfter = time.Second
	// silentAfter is the same for a relay that carries nothing to or from the
	// other end: there it may be the other end that cannot reach it. Both ends
	// find that out alike and meet at the same spare.
	silentAfter = 3 * time.Second
	// spareFor is how long a spare stays when it is not needed any more.
	spareFor = time.Minute
	// tendEvery is how often that is looked at, where there are spares.
	tendEvery = 500 * time.Millisecond
)

// tend decides which relays are wanted.
func (l *Link) tend() {
	t := time.NewTicker(tendEvery)
	defer t.Stop()
	for {
		l.choose(time.Now())
		tick := t.C
		if l.relays() <= warm {
			tick = nil
		}
		select {
		case <-tick:
		case <-l.kick:
		case <-l.ctx.Done():
			return
		}
	}
}

func (l *Link) relays() (n int) {
	for _, s := range l.slots {
		if s.relay() != (wire.RelayEndpoint{}) {
			n++
		}
	}
	return n
}

// choose wants the first two relays of the list, and a further one for each of those before
// it that does not work.
func (l *Link) choose(now time.Time) {
	working := 0
	for _, s := range *l.order.Load() {
		s.want(working < warm, now)
		if s.works(now) {
			working++
		}
	}
}

// works reports whether the slot needs no spare.
func (s *slot) works(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.endpoint == (wire.RelayEndpoint{}) || !s.wanted {
		return false
	}
	if a := s.current.Load(); a != nil {
		return a.silent(now) < silentAfter
	}
	return now.Sub(s.down) < spareAfter || !s.link.isEntitled()
}

func (s *slot) want(yes bool, now time.Time) {
	s.mu.Lock()
	was := s.wanted
	switch {
	case yes:
		if !was {
			s.down = now
		}
		s.wanted, s.idle = true, time.Time{}
	case was && s.idle.IsZero():
		s.idle = now
	case was && now.Sub(s.idle) > spareFor:
		s.wanted = false
	}
	changed := s.wanted != was
	s.mu.Unlock()
	if changed {
		poke(s.wake)
	}
}

// list takes a new list of relays. A relay that both name keeps its slot, and so its
// allocation and what is under way by it, whatever place it now has in the list; the
// places decide only which relays are wanted first, alike at both ends.
func (l *Link) list(endpoints []wire.RelayEndpoint) {
	l.listing.Lock()
	defer l.listing.Unlock()
	var order, free []*slot
	for _, s := range l.slots { // who stays, before anybody takes a slot
		if e := s.relay(); e == (wire.RelayEndpoint{}) || !slices.Contains(endpoints, e) {
			free = append(free, s)
		}
	}
	for _, e := range endpoints {
		i := slices.IndexFunc(l.slots[:], func(s *slot) bool { return s.relay() == e })
		switch {
		case e == (wire.RelayEndpoint{}):
		case i >= 0 && slices.Contains(order, l.slots[i]): // named twice
		case i >= 0:
			order = append(order, l.slots[i])
		case len(free) > 0:
			free[0].assign(e)
			order, free = append(order, free[0]), free[1:]
		}
	}
	for _, s := range free {
		s.assign(wire.RelayEndpoint{})
	}
	order = append(order, free...)
	l.order.Store(&order)
	l.locate(endpoints)
	l.changed()
}

// assign gives the slot another relay.
func (s *slot) assign(e wire.RelayEndpoint) {
	s.mu.Lock()
	changed := s.endpoint != e
	if changed {
		s.endpoint, s.name, s.kind, s.err = e, "", "", nil
	}
	s.mu.Unlock()
	if changed {
		poke(s.wake)
	}
}
