package path

import "time"

// Path MTU discovery by probes (RFC 8899): it believes no ICMP message, which anybody
// can forge. Every datagram costs headers, a seal, a number, an acknowledgement's place
// and a walk through two kernels, whatever its length. Those of Size bytes pass
// everywhere, the RFC's BASE_PLPMTU; most paths carry Wide ones, and one that is nothing
// but one machine, or a network of jumbo frames, seven times as much in each. Which a
// path carries is asked by challenges of that size that may not be sent in parts, once
// data flows; so nobody pays who does not gain. The asking is apart from the watch over
// the path: that nobody answers says nothing about shorter datagrams. Our choices.
const (
	// Wide is the length of a datagram in bytes, sealed, that fits Ethernet behind the
	// headers of IPv6, UDP, a channel and PPPoE. Relays carry none longer.
	Wide = 1440
	// Large fits 9,000 bytes of a link behind the headers of IPv6 and UDP.
	Large = 8928
	// probeEach bytes of data make a probe worth it.
	probeEach = 256 << 10
	// After a probe that failed the next waits twice as long: the RFC's
	// PMTU_RAISE_TIMER, which is 10 minutes at last.
	raiseFirst = time.Second
	raiseMost  = 10 * time.Minute
	// servedWell is how long a size has to work before it is forgotten how often it had
	// stopped to. What carries a probe and then no data, by routes of different MTUs or on
	// purpose, would stall the data again and again.
	servedWell = time.Minute
	// probeLife is how long an answer may take, or two round trips.
	probeLife = 3 * time.Second
)

// pmtuSizes are what is asked for, in bytes.
var pmtuSizes = [...]int{Wide, Large}

// pmtu is what is known about longer datagrams on one path, by pmtuSizes.
type pmtu [len(pmtuSizes)]sizeSearch

// of are the sizes that may pass by v.
func (m *pmtu) of(v Via) []sizeSearch {
	if v.Relayed() {
		return m[:1]
	}
	return m[:]
}

// size is that of the longest datagrams that the path carries, in bytes; the RFC's
// PLPMTU.
func (m *pmtu) size() int {
	n := Size
	for i := range m {
		if m[i].carried {
			n = pmtuSizes[i]
		}
	}
	return n
}

// note books data and reports whether it is time for a probe.
func (m *pmtu) note(v Via, bytes int, now time.Time) (due bool) {
	for i := range m.of(v) {
		due = m[i].note(bytes, now) || due
	}
	return due
}

// answered takes the answer to a probe, if it is one, with the round trip of the path.
func (m *pmtu) answered(token uint64, trip time.Duration, now time.Time) (ok bool) {
	for i := range m {
		ok = ok || m[i].answered(token, trip, now)
	}
	return ok
}

// fail says that longer datagrams do not pass any more, as in a black hole.
func (m *pmtu) fail(now time.Time) {
	for i := range m {
		if s := &m[i]; s.carried {
			if now.Sub(s.since) >= servedWell {
				s.failures = 0
			}
			s.again(s.failures, now)
			s.failures++
		}
	}
}

// forget says that this may be another path, by no fault of its own.
func (m *pmtu) forget(now time.Time) {
	for i := range m {
		if s := &m[i]; s.carried {
			s.again(0, now)
		}
	}
}

// sizeSearch is what is known about one size on one path.
type sizeSearch struct {
	carried bool // the path carries it
	token   uint64
	sent    time.Time // of the challenge with token; zero: none is under way
	tries   int       // since one was answered
	next    time.Time // not before
	data    int       // bytes of data since the last one

	since    time.Time // when it was found to be carried
	failures int       // of what was carried, in a row; see servedWell
}

func (s *sizeSearch) note(bytes int, now time.Time) (due bool) {
	if s.carried {
		return false
	}
	s.data = min(s.data+bytes, probeEach)
	return s.data >= probeEach && !now.Before(s.next)
}

// asking reports whether a probe may still be answered.
func (s *sizeSearch) asking(trip time.Duration, now time.Time) bool {
	return !s.sent.IsZero() && now.Sub(s.sent) <= max(probeLife, 2*trip)
}

func (s *sizeSearch) answered(token uint64, trip time.Duration, now time.Time) bool {
	if s.sent.IsZero() || token != s.token {
		return false
	}
	s.carried = s.asking(trip, now)
	s.sent = time.Time{}
	if s.carried {
		s.tries, s.since = 0, now
	}
	return true
}

// again has the size asked for anew, later after more failures.
func (s *sizeSearch) again(failures int, now time.Time) {
	s.carried, s.sent = false, time.Time{}
	s.next = now.Add(raise(failures))
	s.tries = failures + 1
}

func raise(n int) time.Duration { return min(raiseFirst<<min(n, 16), raiseMost) }

// ask books a challenge and returns its body.
func (s *sizeSearch) ask(token uint64, now time.Time) []byte {
	s.token, s.sent, s.data = token, now, 0
	s.next = now.Add(raise(s.tries))
	s.tries++
	return appendChallenge(token)
}

// confirm is the length of the next challenge that is as long as data. A path that
// carries long ones has to show it again and again, since it may have become another.
// When that is not answered at once the next is short, and so is data.
func (p *path) confirm(now time.Time) int {
	if p.tries > 0 {
		p.pmtu.fail(now)
	}
	return p.pmtu.size()
}

// probeSizes appends probes of the sizes that the chosen path may carry, if data flows
// there and it is time.
func (m *Manager) probeSizes(out []Probe, now time.Time) []Probe {
	p := m.best
	if p == nil || m.state != Good {
		return out
	}
	for i := range p.pmtu.of(p.via) {
		s := &p.pmtu[i]
		if !s.note(0, now) || s.asking(p.rtt.smooth, now) {
			continue
		}
		size := pmtuSizes[i]
		p.out += uint64(size)
		out = append(out, Probe{Via: p.via, Type: Challenge, Body: s.ask(m.cfg.Token(), now), Size: size})
	}
	return out
}

// DatagramSize is how long the datagrams are in which data goes by the chosen path alone,
// sealed, in bytes: Size, Wide or Large.
func (m *Manager) DatagramSize() int {
	if m.state != Good || m.best == nil {
		return Size
	}
	return m.best.pmtu.size()
}
