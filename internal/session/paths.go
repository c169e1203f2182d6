package session

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/crypto/seal"
	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/internal/path"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Times of the paths; our choice.
const (
	// DefaultResume is how long a session without a way to the other end is kept
	// where nobody has said otherwise; policy.DefaultResume is the same.
	DefaultResume = 24 * time.Hour
	// lookAtLeast is how often keepPaths looks at the clock although no path
	// wants anything.
	lookAtLeast = time.Minute
	// jump is by how much a timer may be late, or the wall clock ahead of the
	// monotonic one, before the machine is taken to have slept.
	jump = 3 * time.Second
)

// PathState is what a person may be told of the way that the session takes.
type PathState struct {
	Lost  bool          // nothing gets through: what is sent waits
	Since time.Time     // when Lost last changed
	Via   path.Via      // the way of what we send; zero while lost
	Kind  string        // "relay-udp", …, "direct"; "" while lost
	Name  string        // of the relay, or the other end's address
	RTT   time.Duration // smoothed round trip, 0 when not measured yet
}

// paths decides which way datagrams take. The rules are package path's; this is
// the lock, the clock and the links around them.
type paths struct {
	poke  chan struct{} // cap 1: the manager's timer may have moved
	mu    sync.Mutex
	m     *path.Manager // guarded by mu
	heard bool          // guarded by mu: something authentic has arrived
	last  time.Time     // guarded by mu: when, most recently
	state PathState     // guarded by mu
	alarm time.Time     // guarded by mu: what keepPaths' timer is set to
	sure  path.State    // guarded by mu: at the last better
	// longest is the longest silence that something has ended. What arrives when the
	// machine wakes is there before anybody has looked at the clock.
	longest time.Duration // guarded by mu
	// changed is closed, and replaced, whenever state changes in a way that a
	// person would notice.
	changed chan struct{} // guarded by mu
	// measured is closed, and replaced, whenever a round trip was measured on the
	// chosen path.
	measured chan struct{} // guarded by mu
	// local are the addresses of everybody in the networks that this machine is in.
	local map[netip.Addr]bool // guarded by mu
	// interfaces are this machine's addresses; net.InterfaceAddrs outside of tests.
	interfaces func() ([]net.Addr, error)
}

func newPaths(side seal.Side, l Link, now time.Time) *paths {
	near := false
	for _, c := range l.Candidates() {
		near = near || c.Kind == path.Host && c.Addr.Addr().IsLoopback() // not because a relay says so
	}
	p := &paths{
		poke: make(chan struct{}, 1),
		last: now, sure: path.Good,
		state:   PathState{Since: now},
		changed: make(chan struct{}), measured: make(chan struct{}),
		local: broadcasts(net.InterfaceAddrs), interfaces: net.InterfaceAddrs,
	}
	p.m = path.New(path.Config{
		Operator: side == seal.Operator, Token: token, Now: now, Loopback: near,
		// A relay is not the other end, nor is everybody. The manager is asked under mu.
		Forbid: func(a netip.AddrPort) bool { return l.IsRelay(a) || p.local[a.Addr()] },
	})
	return p
}

// broadcasts are the first and the last address of every IPv4 network that this
// machine is in: what goes there reaches everybody in it.
func broadcasts(interfaces func() ([]net.Addr, error)) map[netip.Addr]bool {
	all := map[netip.Addr]bool{}
	list, _ := interfaces() // without them the machine has no network either
	for _, a := range list {
		n, ok := a.(*net.IPNet)
		if !ok || n.IP.To4() == nil {
			continue
		}
		ip, mask := n.IP.To4(), net.IP(n.Mask).To4()
		if ones, bits := n.Mask.Size(); bits-ones < 2 || mask == nil {
			continue // a link of two, or one address: no broadcast
		}
		var low, high [4]byte
		for i := range ip {
			low[i], high[i] = ip[i]&mask[i], ip[i]|^mask[i]
		}
		all[netip.AddrFrom4(low)], all[netip.AddrFrom4(high)] = true, true
	}
	return all
}

// route is where data goes now.
type route struct {
	first, second path.Via // second is the next best, if there is one
	doubtful      bool     // data goes by both
	heard         bool     // something authentic has arrived in this session
	waking        bool     // this end slept: data waits, see path.Manager.Waking
	size          int      // of the datagrams of data, sealed, in bytes
}

func (r route) none() bool { return r.first == path.Via{} }

// closed reports whether data must wait. Before anything was heard nobody knows
// where the other end is, and it goes everywhere.
func (r route) closed() bool { return r.heard && (r.none() || r.waking) }

// route says where data goes.
func (p *paths) route(now time.Time) route {
	p.mu.Lock()
	defer p.mu.Unlock()
	waking := p.m.Waking(now)
	first, second, state := p.m.Best(now)
	if state == path.Gone {
		return route{heard: p.heard, waking: waking}
	}
	return route{first, second, state == path.Doubtful, p.heard, waking, p.m.DatagramSize()}
}

// sent books what has gone out by r, and nothing else: a path is doubted because it
// owes an answer, and owes none for what was held back.
func (p *paths) sent(r route, bytes int, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.m.Sent(r.first, bytes, now)
	if r.doubtful && r.second != (path.Via{}) {
		p.m.Sent(r.second, bytes, now)
	}
	p.rouseLocked()
}

// rouseLocked wakes keepPaths when the manager's timer has moved forward.
func (p *paths) rouseLocked() {
	if next := p.m.Next(); !next.IsZero() && next.Before(p.alarm) {
		p.alarm = next // once is enough
		poke(p.poke)
	}
}

// arrived books what one way has brought.
func (p *paths) arrived(a arrival, now time.Time) {
	p.mu.Lock()
	p.longest = p.silenceLocked(now)
	p.heard, p.last = true, now
	p.m.Received(a.via, a.bytes, a.newest, a.data, now)
	p.rouseLocked()
	p.mu.Unlock()
}

// frame takes a path frame that came by v.
func (p *paths) frame(v path.Via, t frameType, body []byte, now time.Time) error {
	p.mu.Lock()
	before, _ := p.m.Measured()
	err := p.m.Frame(v, byte(t), body, now)
	if n, _ := p.m.Measured(); n != before {
		close(p.measured)
		p.measured = make(chan struct{})
	}
	p.mu.Unlock()
	poke(p.poke)
	if err != nil {
		return errFrame
	}
	return nil
}

// refresh tells the manager what the link has, and looks in which networks this
// machine is now.
func (p *paths) refresh(l Link, now time.Time) {
	relays, candidates, local := l.Relays(), l.Candidates(), broadcasts(p.interfaces)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.local = local
	for _, r := range relays {
		p.m.SetRelay(r.Via, r.Up, now)
	}
	p.m.SetLocal(candidates, now)
}

// wake distrusts everything: the machine has slept.
func (p *paths) wake(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.m.Wake(now)
}

// due returns the probes that are to be sent and when to ask again.
func (p *paths) due(now time.Time) ([]path.Probe, time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	probes := p.m.Poll(now)
	p.alarm = earlier(p.m.Next(), now.Add(lookAtLeast))
	return probes, p.alarm
}

// better reports whether data can go by more, or more surely, than when it was asked
// last, and whether it could not go at all then.
func (p *paths) better(now time.Time) (better, anew bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _, state := p.m.Best(now)
	if p.m.Waking(now) {
		state = path.Gone
	}
	was := p.sure
	p.sure = state
	return state > was, state > was && was == path.Gone
}

// waking reports whether this end slept and what arrives may be older than that.
func (p *paths) waking(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.m.Waking(now) {
		return false
	}
	p.rouseLocked()
	return true
}

// silence is for how long nothing authentic has arrived, the longest time so far.
func (p *paths) silence(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.silenceLocked(now)
}

func (p *paths) silenceLocked(now time.Time) time.Duration {
	return max(p.longest, passed(now.Sub(p.last), now.Round(0).Sub(p.last.Round(0))))
}

// look updates the state, and returns the relays that should work and do not.
func (p *paths) look(relays []link.RelayState, now time.Time) (silent []path.Via) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first, _, state := p.m.Best(now)
	next := PathState{Lost: state == path.Gone, Since: p.state.Since}
	if !next.Lost {
		next.describe(first, relays)
	}
	for _, s := range p.m.Status() {
		if s.Via == first && !next.Lost {
			next.RTT = s.SRTT
		}
		// A doubt is enough: it may be our place there that is gone, as when a NAT
		// has forgotten us, and only the link can find that out.
		doubted := !s.Validated || !s.Live || s.Chosen && state != path.Good
		if s.Via.Relayed() && s.Up && doubted && !s.Heard.IsZero() {
			silent = append(silent, s.Via)
		}
	}
	was := p.state
	if was.Lost != next.Lost {
		next.Since = now
	}
	p.state = next
	if was.Lost != next.Lost || was.Via != next.Via {
		close(p.changed)
		p.changed = make(chan struct{})
	}
	return silent
}

func (s *PathState) describe(v path.Via, relays []link.RelayState) {
	s.Via, s.Kind, s.Name = v, "direct", v.Addr.String()
	for _, r := range relays {
		if r.Via == v {
			s.Kind, s.Name = string(r.Kind), r.Name
		}
	}
}

// Path says which way the session takes now.
func (c *Conn) Path() PathState {
	c.paths.mu.Lock()
	defer c.paths.mu.Unlock()
	return c.paths.state
}

// PathChanged returns a channel that is closed when Path says something else
// than now: another way, none, or one again.
func (c *Conn) PathChanged() <-chan struct{} {
	c.paths.mu.Lock()
	defer c.paths.mu.Unlock()
	return c.paths.changed
}

// Paths lists every way that is known, for diagnosis.
func (c *Conn) Paths() []path.Status {
	c.paths.mu.Lock()
	defer c.paths.mu.Unlock()
	return c.paths.m.Status()
}

// Ping measures one round trip of a sealed datagram by the chosen path: a challenge
// and its answer, which the other end gives before anything else looks at it. It
// takes as long as ctx allows while there is no way.
func (c *Conn) Ping(ctx context.Context) (time.Duration, error) {
	c.paths.mu.Lock()
	c.paths.m.Ask(time.Now())
	measured := c.paths.measured
	c.paths.mu.Unlock()
	poke(c.paths.poke)
	select {
	case <-measured:
		c.paths.mu.Lock()
		defer c.paths.mu.Unlock()
		_, trip := c.paths.m.Measured()
		return trip, nil
	case <-c.ctx.Done():
		return 0, c.Err()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// keepPaths runs for the life of the session: it sends the probes that find and
// watch paths, notices that the machine slept, and ends the session when there
// was no way for too long.
func (c *Conn) keepPaths() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	planned := time.Now()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.link.Changed():
			c.paths.refresh(c.link, time.Now())
		case <-c.paths.poke:
		case <-timer.C:
		}
		now := time.Now()
		if slept(planned, now) {
			c.paths.wake(now)
			for _, r := range c.link.Relays() {
				c.link.Recheck(r.Via)
			}
		}
		next := c.probe(now)
		if c.paths.silence(now) >= c.resume {
			c.fail(c.tooLong())
			return
		}
		planned = next
		timer.Reset(planned.Sub(now))
	}
}

func (c *Conn) tooLong() error {
	return refusal.New(refusal.Unreachable, "there was no way to the other end for %v", c.resume)
}

// probe sends what is due and what had waited for a path.
func (c *Conn) probe(now time.Time) (next time.Time) {
	probes, next := c.paths.due(now)
	for _, p := range probes {
		_ = c.sendProbe(p, now)
	}
	for _, v := range c.paths.look(c.link.Relays(), now) {
		c.link.Recheck(v)
	}
	if c.sealed.Aged(now) {
		poke(c.wanted)
	}
	c.goOn(now)
	return next
}

// slept reports whether much more time has passed than a timer was set for: the
// process was stopped (both clocks went on), or the machine slept (only the wall
// clock did).
func slept(planned, now time.Time) bool {
	return passed(now.Sub(planned), now.Round(0).Sub(planned.Round(0))) > jump
}

// passed is how much time has passed by the clock that has gone further: own stands
// still while the machine sleeps, and wall, the time of day, can be set back.
func passed(own, wall time.Duration) time.Duration { return max(own, wall) }

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}
