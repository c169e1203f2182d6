package path

import "time"

// Longer datagrams. Every datagram costs headers, a seal, a number, an
// acknowledgement's place and a walk through two kernels, whatever its length. Those of
// Size bytes pass everywhere; most paths carry Wide ones, and one that is nothing but
// one machine, or a network of jumbo frames, seven times as much in each. Which a path
// carries is asked by challenges of that length that may not be sent in parts, once data
// flows; so nobody pays who does not gain. The asking is apart from the watch over the
// path: that nobody answers says nothing about shorter datagrams. Our choices.
const (
	// Wide is the length of a datagram in bytes, sealed, that fits Ethernet behind the
	// headers of IPv6, UDP, a channel and PPPoE. Relays carry none longer.
	Wide = 1440
	// Large fits 9,000 bytes of a link behind the headers of IPv6 and UDP.
	Large = 8928
	// longEach bytes of data make it worth asking.
	longEach = 256 << 10
	// After a try that failed the next waits twice as long.
	longFirst = time.Second
	longMost  = 10 * time.Minute
	// longLife is how long an answer may take.
	longLife = 3 * time.Second
)

// longs is what is known about longer datagrams on one path, by their length.
type longs [2]long

var longLengths = [...]int{Wide, Large}

// of are the lengths that may pass by v.
func (l *longs) of(v Via) []long {
	if v.Relayed() {
		return l[:1]
	}
	return l[:]
}

// length is that of the longest datagrams that the path carries, in bytes.
func (l *longs) length() int {
	n := Size
	for i := range l {
		if l[i].carried {
			n = longLengths[i]
		}
	}
	return n
}

// worth books data and reports whether it is time to ask.
func (l *longs) worth(v Via, bytes int, now time.Time) (any bool) {
	for i := range l.of(v) {
		any = l[i].worth(bytes, now) || any
	}
	return any
}

// answered takes the answer to a long challenge, if it is one.
func (l *longs) answered(token uint64, now time.Time) bool {
	return l[0].answered(token, now) || l[1].answered(token, now)
}

// fail says that longer datagrams may no longer pass.
func (l *longs) fail(now time.Time) {
	for i := range l {
		l[i].fail(now)
	}
}

// long is what is known about one length on one path.
type long struct {
	carried bool // the path carries them
	token   uint64
	sent    time.Time // of the challenge with token; zero: none is under way
	tries   int       // since one was answered
	next    time.Time // not before
	data    int       // bytes of data since the last one
}

func (l *long) worth(bytes int, now time.Time) bool {
	if l.carried {
		return false
	}
	l.data = min(l.data+bytes, longEach)
	return l.data >= longEach && !now.Before(l.next)
}

// asking reports whether a challenge may still be answered.
func (l *long) asking(now time.Time) bool { return !l.sent.IsZero() && now.Sub(l.sent) < longLife }

func (l *long) answered(token uint64, now time.Time) bool {
	if l.sent.IsZero() || token != l.token {
		return false
	}
	l.carried = now.Sub(l.sent) <= longLife
	l.sent = time.Time{}
	if l.carried {
		l.tries = 0
	}
	return true
}

func (l *long) fail(now time.Time) {
	if l.carried {
		l.carried, l.sent, l.tries, l.next = false, time.Time{}, 1, now.Add(longFirst)
	}
}

// ask books a challenge and returns its body.
func (l *long) ask(token uint64, now time.Time) []byte {
	l.token, l.sent, l.data = token, now, 0
	l.next = now.Add(min(longFirst<<min(l.tries, 16), longMost))
	l.tries++
	return appendChallenge(token)
}

// confirm is the length of the next challenge that is as long as data. A path that
// carries long ones has to show it again and again, since it may have become another.
// When that is not answered at once the next is short, and so is data.
func (p *path) confirm(now time.Time) int {
	if p.tries > 0 {
		p.longs.fail(now)
	}
	return p.longs.length()
}

// enlarge appends the questions which datagrams the chosen path carries, if data flows
// there and it is time.
func (m *Manager) enlarge(out []Probe, now time.Time) []Probe {
	p := m.best
	if p == nil || m.state != Good {
		return out
	}
	for i := range p.longs.of(p.via) {
		l := &p.longs[i]
		if !l.worth(0, now) || l.asking(now) {
			continue
		}
		size := longLengths[i]
		p.out += uint64(size)
		out = append(out, Probe{Via: p.via, Type: Challenge, Body: l.ask(m.cfg.Token(), now), Size: size})
	}
	return out
}

// Length is the length of the datagrams, sealed, in which data goes by the chosen path
// alone, in bytes: Size, Wide or Large.
func (m *Manager) Length() int {
	if m.state != Good || m.best == nil {
		return Size
	}
	return m.best.longs.length()
}
