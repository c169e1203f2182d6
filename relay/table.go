package relay

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tucdesk/tucdesk/relay/credential"
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

func userOf(n credential.Name) user { return user{pair: n.Pair, role: n.Role} }

// allocation is one side's place on the relay. It is made when pion accepts an
// Allocate request and ends when pion, or we, close its relayed conn.
type allocation struct {
	user   user
	from   netip.AddrPort
	stream *stream // where its frames go; nil for UDP
	// relayed is pion's end of it.
	relayed *relayed

	peer    atomic.Pointer[allocation] // the other side, while it is there
	expires atomic.Int64               // Unix nanoseconds; of its credential
	bound   atomic.Int64               // Unix nanoseconds; end of its channel binding
	active  atomic.Int64               // Unix nanoseconds; last data either way
	sent    atomic.Uint64              // payload bytes, for the quota
}

// isBound reports whether data may go to and from it as ChannelData.
func (a *allocation) isBound(now time.Time) bool { return a.bound.Load() > now.UnixNano() }

// bindingLife of a channel, as in pion (RFC 8656, section 12).
const bindingLife = 10 * time.Minute

// Refusals of a new allocation. pion answers each with 508 and logs the text.
var (
	errUserInUse   = errors.New("relay: this credential has an allocation")
	errOtherSource = errors.New("relay: this credential is bound to another address")
	errEnded       = errors.New("relay: this session has ended")
	errQuotaTotal  = errors.New("relay: no more allocations")
	errQuotaSource = errors.New("relay: no more allocations for this network")
)

// table holds all allocations and pairs them. Memory is bounded by the total
// quota: users and sources have entries only for allocations, and remembered
// sources of credentials are capped at a multiple of it.
type table struct {
	limits Limits

	mu      sync.RWMutex // guards everything below
	byTuple map[netip.AddrPort]*allocation
	byUser  map[user]*allocation
	bySite  map[netip.Prefix]int
	homes   map[user]home
	ended   map[credential.Pair]time.Time // until when to remember
}

// home is the address a credential was first used from (protocol 6.2).
type home struct {
	addr  netip.Addr
	until time.Time
}

const homesPerAllocation = 4 // our choice: credentials remembered per allowed allocation

func newTable(l Limits) *table {
	return &table{
		limits:  l,
		byTuple: make(map[netip.AddrPort]*allocation),
		byUser:  make(map[user]*allocation),
		bySite:  make(map[netip.Prefix]int),
		homes:   make(map[user]home),
		ended:   make(map[credential.Pair]time.Time),
	}
}

// tuple returns the allocation of a UDP client, or nil.
func (t *table) tuple(from netip.AddrPort) *allocation {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byTuple[from]
}

func (t *table) isEnded(p credential.Pair) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	_, ok := t.ended[p]
	return ok
}

// add takes a into the table and pairs it, or says why not. expires is that of
// the credential.
func (t *table) add(a *allocation, expires, now time.Time) error {
	a.expires.Store(expires.UnixNano())
	a.active.Store(now.UnixNano())
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.refuseLocked(a, now); err != nil {
		return err
	}
	t.homes[a.user] = home{a.from.Addr(), expires}
	t.byUser[a.user] = a
	t.bySite[site(a.from.Addr())]++
	if a.stream == nil {
		t.byTuple[a.from] = a
	}
	if peer := t.byUser[a.user.other()]; peer != nil {
		a.peer.Store(peer)
		peer.peer.Store(a)
	}
	return nil
}

func (t *table) refuseLocked(a *allocation, now time.Time) error {
	if _, ok := t.ended[a.user.pair]; ok {
		return errEnded
	}
	if t.byUser[a.user] != nil {
		return errUserInUse
	}
	h, known := t.homes[a.user]
	if known && now.Before(h.until) && h.addr != a.from.Addr() {
		return errOtherSource
	}
	if len(t.byUser) >= t.limits.Allocations {
		return errQuotaTotal
	}
	if !known && len(t.homes) >= t.limits.Allocations*homesPerAllocation {
		return errQuotaTotal // forgetting one would let its credential be used elsewhere
	}
	if t.bySite[site(a.from.Addr())] >= t.limits.AllocationsPerSource {
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
	return true
}

// renew prolongs a to the expiry of a renewed credential.
func (t *table) renew(a *allocation, expires time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if expires.UnixNano() <= a.expires.Load() || t.byUser[a.user] != a {
		return
	}
	a.expires.Store(expires.UnixNano())
	t.homes[a.user] = home{a.from.Addr(), expires}
}

// end forbids a pair for as long as its credentials may live and returns its
// allocations, which the caller closes.
func (t *table) end(p credential.Pair, now time.Time) (live []*allocation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended[p] = now.Add(credential.MaxLifetime + credential.MaxSkew)
	for _, r := range []credential.Role{credential.Operator, credential.Agent} {
		if a := t.byUser[user{pair: p, role: r}]; a != nil {
			live = append(live, a)
		}
	}
	return live
}

// sweep forgets what has expired and returns the allocations whose time is over.
func (t *table) sweep(now time.Time) (expired, idle []*allocation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for u, h := range t.homes {
		if !now.Before(h.until) && t.byUser[u] == nil {
			delete(t.homes, u)
		}
	}
	for p, until := range t.ended {
		if !now.Before(until) {
			delete(t.ended, p)
		}
	}
	for _, a := range t.byUser {
		switch {
		case now.UnixNano() >= a.expires.Load():
			expired = append(expired, a)
		case now.UnixNano()-a.active.Load() > int64(t.limits.Idle):
			idle = append(idle, a)
		}
	}
	return expired, idle
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
func site(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 24
	if a.Is6() {
		bits = 56
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

func sameUser(username string, a *allocation) bool {
	n, err := credential.Parse(username)
	return err == nil && n.Pair == a.user.pair && n.Role == a.user.role
}
