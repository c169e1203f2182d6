package link

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/carrier"
	"github.com/tucdesk/tucdesk/internal/path"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// Times of the way to a relay; our choice.
const (
	// stagger is the lead of each kind over the next: less than a round trip to a
	// relay worth asking, so that a network without UDP costs one of them.
	stagger = 40 * time.Millisecond
	// perRelay bounds one attempt on one relay, over all kinds.
	perRelay = 10 * time.Second
	// redialFirst and redialMost are between two attempts; the pause doubles, and
	// half of it is random so that a fleet does not come back at once.
	redialFirst = 250 * time.Millisecond
	redialMost  = 30 * time.Second
	// upgradeEvery is how often UDP is tried while another kind is in use.
	upgradeEvery = time.Minute
	// upgradeWithin bounds such a try.
	upgradeWithin = 5 * time.Second
	// checkWithin bounds the question whether an allocation is still there, and
	// checkEvery is the shortest pause between two of them.
	checkWithin = 3 * time.Second
	checkEvery  = 5 * time.Second
)

// kinds in the order in which they are preferred.
var kinds = [...]Kind{RelayUDP, RelayTCP, RelayTLS, RelayDTLS, RelayWebSocket}

var carriers = map[Kind]carrier.Kind{
	RelayTCP: carrier.TCP, RelayTLS: carrier.TLS, RelayDTLS: carrier.DTLS, RelayWebSocket: carrier.WebSocket,
}

// address is where a relay takes k, "" if it does not.
func (k Kind) address(e wire.RelayEndpoint) string {
	switch k {
	case RelayUDP:
		return e.UDP
	case RelayTCP:
		return e.TCP
	case RelayTLS:
		return e.TLS
	case RelayDTLS:
		return e.DTLS
	case RelayWebSocket:
		return e.WebSocket
	}
	return ""
}

// slot keeps one allocation on one relay for the life of the link.
type slot struct {
	link *Link
	via  path.Via
	wake chan struct{} // cap 1: dial now, whatever the pause

	mu      sync.Mutex
	end     wire.RelayEndpoint // guarded by mu
	a       *allocation        // guarded by mu; nil while there is none
	last    Kind               // guarded by mu; of the last allocation
	err     error              // guarded by mu; why there is none
	tried   bool               // guarded by mu; an attempt has ended, so or so
	checked time.Time          // guarded by mu; when the allocation was last asked for
}

// run dials, and dials again whenever the allocation is gone.
func (r *slot) run(ctx context.Context) {
	pause := redialFirst
	for ctx.Err() == nil {
		began := time.Now()
		a, err := r.dial(ctx)
		r.set(a, err)
		if err == nil {
			r.hold(ctx, a)
			if time.Since(began) > redialMost {
				pause = redialFirst
			}
		}
		if !r.rest(ctx, pause) {
			continue
		}
		pause = min(2*pause, redialMost)
	}
}

// rest waits before the next attempt and reports whether nobody cut it short.
func (r *slot) rest(ctx context.Context, pause time.Duration) bool {
	t := time.NewTimer(pause/2 + rand.N(pause/2+1))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-r.wake:
		return false
	case <-t.C:
	}
	return true
}

// hold lives with an allocation until it ends, and exchanges it for one over UDP
// when that can be had.
func (r *slot) hold(ctx context.Context, a *allocation) {
	upgrade := time.NewTicker(upgradeEvery)
	defer upgrade.Stop()
	for {
		select {
		case <-ctx.Done():
			a.close()
			return
		case <-a.done:
			a.close()
			r.link.log.Info("the way to a relay was lost", "relay", a.name, "kind", a.kind, "error", a.err)
			r.set(nil, a.err)
			return
		case <-r.wake: // asked to check: see Link.Recheck
			r.check(ctx, a)
		case <-upgrade.C:
			if b := r.upgrade(ctx, a); b != nil {
				r.set(b, nil)
				a.close()
				a = b
			}
		}
	}
}

// check asks the relay whether the allocation is still there, and ends it if not.
func (r *slot) check(ctx context.Context, a *allocation) {
	r.mu.Lock()
	early := time.Since(r.checked) < checkEvery
	r.mu.Unlock()
	if early {
		return
	}
	try, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	err := a.prolong(try, r.link.credential())
	r.mu.Lock()
	r.checked = time.Now()
	r.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		a.fail(err)
	}
}

func (r *slot) upgrade(ctx context.Context, a *allocation) *allocation {
	if a.kind == RelayUDP || r.endpoint().UDP == "" {
		return nil
	}
	try, cancel := context.WithTimeout(ctx, upgradeWithin)
	defer cancel()
	b, err := r.overUDP(try, nil)
	if err != nil {
		return nil
	}
	return b
}

func (r *slot) endpoint() wire.RelayEndpoint {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.end
}

func (r *slot) set(a *allocation, err error) {
	r.mu.Lock()
	r.a, r.err, r.tried = a, err, true
	if a != nil {
		r.last = a.kind
	}
	r.mu.Unlock()
	if a != nil {
		r.link.remember(a.kind)
	}
	r.link.poke()
}

func (r *slot) get() *allocation {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.a
}

// state describes the relay.
func (r *slot) state() RelayState {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := RelayState{Via: r.via, Kind: r.last, Up: r.a != nil, Err: r.err}
	if r.a != nil {
		s.Name = r.a.name
		return s
	}
	for _, k := range kinds {
		if at := k.address(r.end); at != "" && (s.Name == "" || k == r.last) {
			s.Name = at
		}
	}
	return s
}

// dial makes an allocation by the first kind that gets through. Kinds start one
// after the other, but only one of them allocates at a time: the relay gives our
// place to whoever asked last, so two that both succeed would throw each other
// out. UDP asks at once, since its question costs no round trip of its own; as
// soon as the relay has said anything over UDP, nothing else is tried. All
// attempts have ended when it returns.
func (r *slot) dial(ctx context.Context) (*allocation, error) {
	ctx, cancel := context.WithTimeout(ctx, perRelay)
	d := dialling{r: r, ctx: ctx, end: r.endpoint()}
	order := r.link.order(d.end)
	d.conns = make(chan connected, len(order))
	defer func() { // whoever came late
		cancel()
		d.wg.Wait()
		close(d.conns)
		for c := range d.conns {
			c.close()
		}
	}()
	for i, k := range order {
		after := time.Duration(i) * stagger
		if k == RelayUDP {
			d.tryUDP(after)
			continue
		}
		d.waiting++
		d.wg.Go(func() { d.conns <- d.connect(after, k) })
	}
	a, err := d.first()
	if err != nil && ctx.Err() != nil {
		err = errors.Join(err, ctx.Err())
	}
	return a, err
}

// dialling is one dial under way.
type dialling struct {
	r       *slot
	ctx     context.Context
	end     wire.RelayEndpoint
	wg      sync.WaitGroup
	conns   chan connected // has room for all
	waiting int            // connections that have not come yet
	errs    []error

	udp    context.CancelFunc // nil without UDP, and when it is over
	spoke  chan struct{}      // closed when the relay has said something over UDP
	result chan result        // of UDP, cap 1
}

// connected is a connection that is not allocated on yet.
type connected struct {
	kind Kind
	leg  *connLeg
	err  error
}

func (c connected) close() {
	if c.err == nil {
		c.leg.close()
	}
}

type result struct {
	a   *allocation
	err error
}

func (d *dialling) tryUDP(after time.Duration) {
	ctx, cancel := context.WithCancel(d.ctx)
	d.udp, d.spoke, d.result = cancel, make(chan struct{}), make(chan result, 1)
	d.wg.Go(func() {
		defer cancel()
		if !sleep(ctx, after) {
			d.result <- result{nil, ctx.Err()}
			return
		}
		a, err := d.r.overUDP(ctx, d.spoke)
		d.result <- result{a, err}
	})
}

func (d *dialling) connect(after time.Duration, k Kind) connected {
	if !sleep(d.ctx, after) {
		return connected{k, nil, d.ctx.Err()}
	}
	leg, err := connect(d.ctx, k, d.end, &d.r.link.stats)
	return connected{k, leg, err}
}

// first waits for what comes first; see dial.
func (d *dialling) first() (*allocation, error) {
	var reserve []connected // connections that wait for UDP to fail
	defer func() {
		for _, c := range reserve {
			c.close()
		}
	}()
	spoke, result := d.spoke, d.result // nil when over
	silent := d.udp != nil             // UDP is being tried and has heard nothing
	for result != nil || d.waiting > 0 || len(reserve) > 0 {
		if len(reserve) > 0 && (silent || result == nil) {
			a, err := d.claim(result, reserve[0])
			if err == nil {
				reserve = reserve[1:]
				return a, nil
			}
			d.errs = append(d.errs, err)
			reserve[0].close()
			silent, result, spoke, reserve = false, nil, nil, reserve[1:]
			continue
		}
		select {
		case <-spoke:
			silent, spoke = false, nil
		case got := <-result:
			if got.err == nil {
				return got.a, nil
			}
			d.errs = append(d.errs, got.err)
			silent, result, spoke = false, nil, nil
		case c := <-d.conns:
			d.waiting--
			if c.err != nil {
				d.errs = append(d.errs, c.err)
				continue
			}
			reserve = append(reserve, c)
		}
	}
	return nil, errors.Join(d.errs...)
}

// claim gives up on UDP, unless it was quicker after all, and allocates on c.
func (d *dialling) claim(udp chan result, c connected) (*allocation, error) {
	if udp != nil {
		d.udp()
		if got := <-udp; got.err == nil {
			c.close()
			return got.a, nil
		}
		d.errs = append(d.errs, fmt.Errorf("no answer from relay %q over UDP", d.end.UDP))
	}
	r := d.r
	a := newAllocation(r.via, c.kind, c.kind.address(d.end), r.link.log, &r.link.stats)
	a.leg = c.leg
	a.wg.Go(func() { c.leg.read(a, &r.link.in) })
	return r.establish(d.ctx, a)
}

// overUDP allocates over UDP, by the first address of the relay's name: the
// connections, which try all, are what is left when that one does not answer.
// spoke is closed when the relay has said anything; it may be nil.
func (r *slot) overUDP(ctx context.Context, spoke chan struct{}) (*allocation, error) {
	name := r.endpoint().UDP
	addr, err := resolve(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("finding relay %q: %v", name, err)
	}
	h := r.link.host(addr.Addr())
	if h == nil {
		return nil, fmt.Errorf("reaching relay %q: this machine has no socket of its family", name)
	}
	a := newAllocation(r.via, RelayUDP, name, r.link.log, &r.link.stats)
	if spoke != nil {
		a.spoke = spoke
	}
	if a.leg, err = h.serve(addr, a); err != nil {
		return nil, err
	}
	return r.establish(ctx, a)
}

func (r *slot) establish(ctx context.Context, a *allocation) (*allocation, error) {
	if err := a.establish(ctx, r.link.credential()); err != nil {
		a.close()
		return nil, fmt.Errorf("allocating on relay %q by %s: %v", a.name, a.kind, err)
	}
	return a, nil
}

// resolve takes the first address of a name.
func resolve(ctx context.Context, addr string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.AddrPort{}, errors.New("address is not host:port")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return netip.AddrPort{}, errors.New("port is not a number from 1 to 65535")
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if len(ips) == 0 {
		return netip.AddrPort{}, errors.New("name has no address")
	}
	return netip.AddrPortFrom(ips[0].Unmap(), uint16(n)), nil
}

// failure words why no relay could be reached, leg by leg.
func failure(states []RelayState) error {
	var legs []string
	for _, s := range states {
		if s.Err != nil {
			legs = append(legs, strings.ReplaceAll(s.Err.Error(), "\n", "; "))
		}
	}
	return refusal.New(refusal.RelayFailed, "no relay could be reached: %s", strings.Join(legs, "; "))
}
