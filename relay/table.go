package relay

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// user is who an allocation belongs to. Renewed credentials of one pair and role
// are one user.
type user struct {
	pair credential.Pair
	role credential.Role
	// from is set in lab mode only, where foreign tools allocate several times
	// with one credential: each client is its own user, and has no other side.
	from netip.AddrPort
}

func (u user) other() user { return user{u.pair, u.role.Other(), u.from} }

// allocation is one side's place on the relay. It is made when pion accepts an
// Allocate request and ends when pion, or we, close its relayed conn.
type allocation struct {
	user   user
	from   netip.AddrPort
	stream *stream   // where its frames go; nil for UDP
	front  *front    // whose pion instance has it
	issued time.Time // of the challenge that its request answered
	// relayed is pion's end of it.
	relayed *relayed

	peer    atomic.Pointer[allocation] // the other side, while it is there
	expires atomic.Int64               // Unix nanoseconds; of its credential
	lapses  atomic.Int64               // Unix nanoseconds; end of the lifetime that pion has granted
	bound   atomic.Int64               // Unix nanoseconds; end of its channel binding
	active  atomic.Int64               // Unix nanoseconds; last data either way
	sent    atomic.Uint64              // payload bytes, for the quota
	rate    rate
	control bucket // guarded by sources.mu
}

// rate is a bucket of bytes.
type rate struct {
	mu     sync.Mutex // guards everything below
	tokens float64
	last   time.Time
}

// rateSeconds is how much of its rate a client may use at once. Our choice.
const rateSeconds = 10

func (r *rate) take(n int, perSecond uint64, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	full := rateSeconds * float64(perSecond)
	if r.last.IsZero() {
		r.tokens = full
	} else if d := now.Sub(r.last); d > 0 {
		r.tokens = min(full, r.tokens+float64(perSecond)*d.Seconds())
	}
	r.last = later(r.last, now)
	if r.tokens < float64(n) {
		return false
	}
	r.tokens -= float64(n)
	return true
}

// isBound reports whether data may go to and from it as ChannelData.
func (a *allocation) isBound(now time.Time) bool { return a.bound.Load() > now.UnixNano() }

// bindingLife of a channel, as in pion (RFC 8656, section 12).
const bindingLife = 10 * time.Minute

// Refusals of a new allocation. pion answers each with 508 and logs the text.
var (
	errReplayed    = errors.New("relay: this request is older than the allocation it would replace")
	errTakeOvers   = errors.New("relay: this credential changes its place too often")
	errQuotaTotal  = errors.New("relay: no more allocations")
	errQuotaSource = errors.New("relay: no more allocations for this network")
)

// table holds all allocations and pairs them. Memory is bounded by the total
// quota: users and sources have entries only for allocations, and the pasts of users
// are capped at a multiple of it.
type table struct {
	limits Limits

	mu      sync.RWMutex // guards everything below
	byTuple map[netip.AddrPort]*allocation
	byUser  map[user]*allocation
	bySite  map[netip.Prefix]int
	pasts   map[user]*past
}

// past is what is remembered of a user until its credential expires, also between
// two allocations.
type past struct {
	until time.Time // expiry of its credential
	made  time.Time // its newest allocation
	sent  uint64    // payload bytes of its ended allocations, for the quota
	// tokens and last limit how often it may take its own place over.
	tokens float64
	last   time.Time
}

// allows: in lab mode always, for pion asks twice for an even port, and no place is
// taken over there.
func (p *past) allows(u user, issued time.Time) bool {
	return u.from.IsValid() || issued.After(p.made)
}

// Limits of memory and of take-overs; our choice. A laptop that changes its network
// every few seconds keeps its session; two who fight for one place do not load the
// relay.
const (
	pastsPerAllocation = 4   // users remembered per allowed allocation
	takeOverBurst      = 10  // at once
	takeOverRate       = 0.5 // per second
)

func newTable(l Limits) *table {
	return &table{
		limits:  l,
		byTuple: make(map[netip.AddrPort]*allocation),
		byUser:  make(map[user]*allocation),
		bySite:  make(map[netip.Prefix]int),
		pasts:   make(map[user]*past),
	}
}

// tuple returns the allocation of a UDP client, or nil.
func (t *table) tuple(from netip.AddrPort) *allocation {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byTuple[from]
}

// allows reports whether a challenge given out at a time may lead to an allocation
// of a user: not if the user has made one since.
func (t *table) allows(u user, issued time.Time) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	p := t.pasts[u]
	return p == nil || p.allows(u, issued)
}

// add takes a into the table and pairs it, or says why not. expires is that of the
// credential, issued the time of the challenge that its request answers. If its
// user has an allocation, a takes its place and add returns the old one, which the
// caller ends.
//
// An end whose address has changed, or whose transport has died, dials again with
// the same or a renewed credential while the relay still holds its old place, so
// the newest proved allocation wins. The challenge must be newer than the
// allocation it replaces: a recorded request cannot win a place back, and of
// several dials at once the first to be answered stays.
func (t *table) add(a *allocation, expires, issued, now time.Time) (old *allocation, err error) {
	a.expires.Store(expires.UnixNano())
	a.active.Store(now.UnixNano())
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.pasts[a.user]
	old = t.byUser[a.user]
	if p == nil || old == nil && !now.Before(p.until) {
		p = &past{tokens: takeOverBurst, last: now}
	}
	if err := t.refuseLocked(a, old, p, issued, now); err != nil {
		return nil, err
	}
	if old != nil {
		t.removeLocked(old)
		a.bound.Store(old.bound.Load()) // both ends bind the one channel, so data can go on at once
	}
	a.sent.Store(p.sent)
	p.made, p.until = now, later(p.until, expires)
	t.pasts[a.user] = p
	t.byUser[a.user] = a
	t.bySite[site(a.from.Addr())]++
	if a.stream == nil {
		t.byTuple[a.from] = a
	}
	if peer := t.byUser[a.user.other()]; peer != nil {
		a.peer.Store(peer)
		peer.peer.Store(a)
	}
	return old, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (t *table) refuseLocked(a, old *allocation, p *past, issued, now time.Time) error {
	if !p.allows(a.user, issued) {
		return errReplayed
	}
	total, here := len(t.byUser), t.bySite[site(a.from.Addr())]
	if old != nil {
		if !refill(&p.tokens, &p.last, takeOverRate, takeOverBurst, now) {
			return errTakeOvers
		}
		total--
		if site(old.from.Addr()) == site(a.from.Addr()) {
			here--
		}
	}
	if total >= t.limits.Allocations {
		return errQuotaTotal
	}
	if t.pasts[a.user] == nil && len(t.pasts) >= t.limits.Allocations*pastsPerAllocation {
		return errQuotaTotal // forgetting one would give its quota back
	}
	if here >= t.limits.AllocationsPerSource {
		return errQuotaSource
	}
	return nil
}

// remove takes a out; it does nothing if a is not in the table.
func (t *table) remove(a *allocation) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byUser[a.user] != a {
		return false
	}
	t.removeLocked(a)
	return true
}

func (t *table) removeLocked(a *allocation) {
	if p := t.pasts[a.user]; p != nil {
		p.sent = a.sent.Load()
	}
	delete(t.byUser, a.user)
	if t.byTuple[a.from] == a {
		delete(t.byTuple, a.from)
	}
	s := site(a.from.Addr())
	if t.bySite[s]--; t.bySite[s] <= 0 {
		delete(t.bySite, s)
	}
	if peer := a.peer.Swap(nil); peer != nil {
		peer.peer.CompareAndSwap(a, nil)
	}
}

// renew prolongs a to the expiry of a renewed credential.
func (t *table) renew(a *allocation, expires time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if expires.UnixNano() <= a.expires.Load() || t.byUser[a.user] != a {
		return
	}
	a.expires.Store(expires.UnixNano())
	t.pasts[a.user].until = expires
}

// lapseEarly is how long before its end a lifetime is taken for over, so that the
// sweep comes before pion's timer, also a late one (lengthened). Our choice.
const lapseEarly = 4 * sweepEvery

// sweep forgets what has expired and returns the allocations whose time is over.
func (t *table) sweep(now time.Time) (expired, lapsed, idle []*allocation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for u, p := range t.pasts {
		if !now.Before(p.until) && t.byUser[u] == nil {
			delete(t.pasts, u)
		}
	}
	for _, a := range t.byUser {
		switch {
		case now.UnixNano() >= a.expires.Load():
			expired = append(expired, a)
		case now.UnixNano() >= a.lapses.Load()-int64(lapseEarly):
			lapsed = append(lapsed, a)
		case now.UnixNano()-a.active.Load() > int64(t.limits.Idle):
			idle = append(idle, a)
		}
	}
	return expired, lapsed, idle
}

// all returns every allocation.
func (t *table) all() []*allocation {
	t.mu.RLock()
	defer t.mu.RUnlock()
	list := make([]*allocation, 0, len(t.byUser))
	for _, a := range t.byUser {
		list = append(list, a)
	}
	return list
}

func (t *table) size() (allocations, pairs int) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, a := range t.byUser {
		if a.user.role == credential.Operator && a.peer.Load() != nil {
			pairs++
		}
	}
	return len(t.byUser), pairs
}

// site is the network whose allocations are counted together: an IPv4 /24 or an
// IPv6 /56, about what one customer of a provider has (protocol 6.3).
func site(a netip.Addr) netip.Prefix { return guard.Network(a, 24) }

func sameUser(username string, a *allocation) bool {
	n, err := credential.Parse(username)
	return err == nil && n.Pair == a.user.pair && n.Role == a.user.role
}
