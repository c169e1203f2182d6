package transport

import "time"

// timersLocked does what time has made due.
func (c *Conn) timersLocked(now time.Duration) {
	r := &c.rec
	if r.lossAt > 0 && now >= r.lossAt {
		if n := c.loseLocked(now); n > 0 {
			c.model.acknowledged(sample{now: now, lost: n, flying: r.bytes, delivered: r.delivered, limited: true})
		}
	}
	if at := r.probeAt(now); at > 0 && now >= at {
		c.probeLocked(now)
	}
}

// probeLocked sends the oldest packets' contents again, without taking them for
// lost: the answer tells.
func (c *Conn) probeLocked(now time.Duration) {
	r := &c.rec
	if r.probes++; r.probes > 1 {
		r.fresh = r.next // what comes back now may have waited for a network
	}
	c.forced = 2
	c.tellPing = true
	r.lastSent = now // even if nothing goes out
	for n, left := r.first, 2; n < r.next && left > 0; n++ {
		if p := r.at(n); p.fate == flying {
			left--
			for i := range p.refs {
				c.againLocked(p.refs[i])
			}
		}
	}
}

// Nudge says that a path has become surer: the oldest that is not acknowledged goes
// out again now, or a PING, whose answer says what is missing. Its timer alone may be
// a second off.
func (c *Conn) Nudge() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.probeLocked(c.now())
	c.poke()
}

// Poke says that a path is back, or that this machine has woken: whatever was under
// way is sent again at once, at the careful rate of a beginning, and no round trip
// is measured across the pause.
func (c *Conn) Poke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &c.rec
	for n := r.first; n < r.next; n++ {
		if p := r.at(n); p.fate == flying {
			c.loseOneLocked(p)
			r.lost-- // not by the network's fault
			p.fate = settled
			r.doubted--
		}
	}
	now := c.now()
	r.first, r.fresh, r.probes, r.lossAt, r.heard = r.next, r.next, 0, 0, now
	c.model = newModel(c.size, now)
	c.model.roundEnd = r.delivered
	c.tellPing, c.forced = true, 2
	c.poke()
}

// nextLocked is when the sender has to look again.
func (c *Conn) nextLocked(now time.Duration) time.Duration {
	at := now + time.Hour // there is nothing to do until somebody pokes
	sooner := func(t time.Duration) {
		if t > 0 {
			at = min(at, t)
		}
	}
	sooner(c.rec.lossAt)
	sooner(c.rec.probeAt(now))
	sooner(c.arr.at)
	if c.sendableLocked() && c.rec.bytes+c.size <= c.model.window {
		short := min(c.quantumLocked(), float64(c.pendingLocked())) - c.tokens
		sooner(now + max(time.Duration(short/c.model.pacing*float64(time.Second)), 50*time.Microsecond))
	}
	return at
}
