package path

import "time"

// Long datagrams. Every datagram costs a seal, a number, an acknowledgement's place
// and a walk through two kernels, whatever its length. A path that is nothing but one
// machine, or a network of jumbo frames, carries seven times as much in each. Whether it
// does is asked by a challenge of that length that may not be sent in parts, once data
// flows; so nobody pays who does not gain. The asking is apart from the watch over the
// path: that nobody answers says nothing about shorter datagrams. Our choices.
const (
	// Large is the length of a long datagram in bytes, sealed: it fits 9,000 bytes of
	// a link behind the headers of IPv6 and UDP.
	Large = 8928
	// largeEach bytes of data make it worth asking.
	largeEach = 256 << 10
	// After a try that failed the next waits twice as long.
	largeFirst = time.Second
	largeMost  = 10 * time.Minute
	// largeLife is how long an answer may take.
	largeLife = 3 * time.Second
)

// large is what is known about long datagrams on one path.
type large struct {
	carried bool // the path carries them
	token   uint64
	sent    time.Time // of the challenge with token; zero: none is under way
	tries   int       // since one was answered
	next    time.Time // not before
	data    int       // bytes of data since the last one
}

// worth books data and reports whether it is time to ask.
func (l *large) worth(bytes int, now time.Time) bool {
	if l.carried {
		return false
	}
	l.data = min(l.data+bytes, largeEach)
	return l.data >= largeEach && !now.Before(l.next)
}

// asking reports whether a challenge may still be answered.
func (l *large) asking(now time.Time) bool { return !l.sent.IsZero() && now.Sub(l.sent) < largeLife }

// answered takes the answer to a long challenge, if it is one.
func (l *large) answered(token uint64, now time.Time) bool {
	if l.sent.IsZero() || token != l.token {
		return false
	}
	l.carried = now.Sub(l.sent) <= largeLife
	l.sent = time.Time{}
	if l.carried {
		l.tries = 0
	}
	return true
}

// fail says that long datagrams may no longer pass.
func (l *large) fail(now time.Time) {
	if l.carried {
		l.carried, l.sent, l.tries, l.next = false, time.Time{}, 1, now.Add(largeFirst)
	}
}

// confirm is the length of the next challenge that is as long as data. A path that
// carries long ones has to show it again and again, since it may have become another.
// When that is not answered at once the next is short, and so is data.
func (p *path) confirm(now time.Time) int {
	if p.large.carried && p.tries == 0 {
		return Large
	}
	p.large.fail(now)
	return Size
}

// enlarge appends the question whether the chosen path carries long datagrams, if data
// flows there and it is time.
func (m *Manager) enlarge(out []Probe, now time.Time) []Probe {
	p := m.best
	if p == nil || p.via.Relayed() || m.state != Good || !p.large.worth(0, now) || p.large.asking(now) {
		return out
	}
	l := &p.large
	l.token, l.sent, l.data = m.cfg.Token(), now, 0
	l.next = now.Add(min(largeFirst<<min(l.tries, 16), largeMost))
	l.tries++
	p.out += Large
	return append(out, Probe{Via: p.via, Type: Challenge, Body: appendChallenge(l.token), Size: Large})
}

// Large reports whether data that goes by the chosen path alone may go in datagrams of
// that length.
func (m *Manager) Large() bool {
	return m.state == Good && m.best != nil && m.best.large.carried
}
