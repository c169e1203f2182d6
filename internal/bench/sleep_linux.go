package bench

import (
	"errors"
	"fmt"
	"time"

	"github.com/tucdesk/tucdesk/internal/netlab"
)

// afterSleep is how many keys are typed after a sleep, and sleepTime how long the
// first may take to show; our choice.
const (
	afterSleep = 20
	sleepTime  = 2 * time.Minute
)

// lidTries is how often a key is caught under way at most, and lidGrace how long what
// the client has written before it was stopped may take to reach us; our choice.
const (
	lidTries = 20
	lidGrace = 50 * time.Millisecond
)

// sleep stops client, target and server with its relay at once, with a key under
// way, and measures how long keys take when they go on.
func (r *run) sleep() error {
	for _, way := range []struct {
		name string
		nat  netlab.Behaviour
	}{{"tucdesk, direct", netlab.PortRestricted}, {"tucdesk, by the relay", netlab.Symmetric}} {
		var first, slowest []float64
		var err error
		for range r.cfg.Repeat {
			var a, b time.Duration
			if err = r.apart(func(r *run) (err error) { a, b, err = r.lid(way.nat); return err }); err != nil {
				break
			}
			r.say("%s: goes on after %v, later keys at most %v", way.name, a.Round(time.Millisecond), b.Round(time.Millisecond))
			first, slowest = append(first, milliseconds(a)), append(slowest, milliseconds(b))
		}
		r.add(way.name, "until the key under way shows", "ms", first, err)
		r.add(way.name, fmt.Sprintf("slowest of %d keys after that", afterSleep), "ms", slowest, err)
	}
	return r.Err()
}

// lid closes and opens everybody's lid.
func (r *run) lid(nat netlab.Behaviour) (first, slowest time.Duration, err error) {
	s := r.newInternet()
	here, there := s.inet.NAT(nat), s.inet.NAT(nat)
	s.target = there.Host("target")
	s.team = r.found(s.inet.Host("hub"), nil)
	s.team.join(s.target)
	here.Set(wan())
	seat := here.Host("seat")
	t, err := s.open(s.tucdesk("tucdesk", "never"), seat)
	if err != nil {
		return 0, 0, err
	}
	for begun := time.Now(); time.Since(begun) < directTime/2; { // whatever paths it finds
		if _, err := t.key(lostKey); err != nil {
			return 0, 0, err
		}
		if err := s.pause(mostPause); err != nil {
			return 0, 0, err
		}
	}
	everybody := []*netlab.Host{seat, s.target, s.team.hub}
	key, err := s.closeLids(t, everybody)
	if err == nil {
		err = s.pause(s.cfg.Sleep)
	}
	start := time.Now() // before the first one goes on: nothing can show earlier
	forEach(everybody, (*netlab.Host).Resume)
	if err != nil {
		return 0, 0, err
	}
	at, err := t.await(key, sleepTime)
	if err != nil {
		return 0, 0, fmt.Errorf("the key under way was lost: %v", err)
	}
	for range afterSleep {
		d, err := t.key(lostKey)
		if err != nil {
			return 0, 0, fmt.Errorf("after the sleep: %v", err)
		}
		slowest = max(slowest, d)
	}
	return at.Sub(start), slowest, nil
}

// closeLids stops everybody with a key under way: the client has sent it, and its echo
// has not come. On a busy machine the echo can be there before the last one stands
// still; such a key says nothing about sleep, so the next one is tried. Everybody is
// stopped when it returns, also with an error.
func (r *run) closeLids(t *terminal, everybody []*netlab.Host) (key byte, err error) {
	for range lidTries {
		if key, _, err = t.press(); err == nil {
			err = r.pause(halfTrip / 2)
		}
		forEach(everybody, func(h *netlab.Host) { h.Suspend() })
		if err != nil {
			return 0, err
		}
		switch _, early := t.await(key, lidGrace); {
		case errors.Is(early, errEnded):
			return 0, early
		case early != nil:
			return key, nil
		}
		forEach(everybody, (*netlab.Host).Resume)
	}
	forEach(everybody, func(h *netlab.Host) { h.Suspend() })
	return 0, fmt.Errorf("each of %d keys had shown before everybody was stopped", lidTries)
}

func forEach(hosts []*netlab.Host, do func(*netlab.Host)) {
	for _, h := range hosts {
		do(h)
	}
}
