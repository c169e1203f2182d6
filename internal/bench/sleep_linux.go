package bench

import (
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
	key, _, err := t.press()
	if err == nil {
		err = s.pause(halfTrip / 2) // the client has sent it, the target has not got it
	}
	for _, h := range everybody {
		h.Suspend()
	}
	if err == nil {
		err = s.pause(s.cfg.Sleep)
	}
	for _, h := range everybody {
		h.Resume()
	}
	start := time.Now()
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
