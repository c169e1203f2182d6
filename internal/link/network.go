package link

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/path"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// settle is how long the system's addresses may go on changing before anybody is
// told: an interface that comes up gets several. lookEvery is between two looks
// where the system does not tell. Our choice.
const (
	settle    = 200 * time.Millisecond
	lookEvery = 10 * time.Second
)

// network is what is known about where this machine is.
type network struct {
	mu    sync.Mutex
	addrs []netip.Addr // guarded by mu; sorted
}

// read asks the system and reports whether the addresses are others than before.
func (n *network) read() (changed bool) {
	var addrs []netip.Addr
	list, _ := net.InterfaceAddrs() // no addresses are what a machine without network has, too
	for _, a := range list {
		if p, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(p.IP); ok && reachable(ip.Unmap()) {
				addrs = append(addrs, ip.Unmap())
			}
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	addrs = slices.Compact(addrs)
	n.mu.Lock()
	defer n.mu.Unlock()
	changed = !slices.Equal(addrs, n.addrs)
	n.addrs = addrs
	return changed
}

// reachable leaves out what another machine cannot send to.
func reachable(a netip.Addr) bool {
	return a.IsValid() && !a.IsLinkLocalUnicast() && !a.IsMulticast() && !a.IsUnspecified()
}

func (n *network) list() []netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.addrs)
}

// name is the same for the same network: a hash of the prefixes that the machine
// has addresses in, since what it says is kept in a file.
func (n *network) name() string {
	var parts []string
	for _, a := range n.list() {
		bits := 24
		if a.Is6() {
			bits = 64
		}
		p, err := a.Prefix(bits)
		if err == nil && !a.IsLoopback() {
			parts = append(parts, p.String())
		}
	}
	slices.Sort(parts)
	sum := sha256.Sum256([]byte(strings.Join(slices.Compact(parts), " ")))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// watch follows the system's addresses. Where they change, every allocation is
// asked for: what was sent from the old address is another's to the relay.
func (l *Link) watch() {
	events := l.addressEvents()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-events:
			if !sleep(l.ctx, settle) {
				return
			}
		case <-tick.C:
		}
		if l.network.read() {
			l.log.Info("the addresses of this machine have changed")
			for _, r := range l.list() {
				l.Recheck(r.via)
			}
			l.poke()
		}
	}
}

// Candidates lists where this end may be reached directly: the machine's own
// addresses, what relays see, and what was configured. Loopback is among them only
// if a relay is on this machine: then the other end may be, too.
func (l *Link) Candidates() []path.Candidate {
	if !l.cfg.Direct {
		return nil
	}
	var out []path.Candidate
	add := func(k path.Kind, a netip.AddrPort) {
		if !slices.ContainsFunc(out, func(c path.Candidate) bool { return c.Addr == a }) {
			out = append(out, path.Candidate{Kind: k, Addr: a})
		}
	}
	near := l.relayNear()
	for _, a := range l.network.list() {
		if h := l.host(a); h != nil && (near || !a.IsLoopback()) {
			add(path.Host, netip.AddrPortFrom(a, h.conn.LocalAddr().Port()))
		}
	}
	for _, r := range l.list() {
		if a := r.get(); a != nil && a.kind == RelayUDP {
			if at := a.reflexive.Load(); at != nil && (near || !at.Addr().IsLoopback()) {
				add(path.Reflexive, *at)
			}
		}
	}
	for _, a := range l.cfg.Fixed {
		add(path.Configured, a)
	}
	return out
}

// relayNear reports whether a relay is reached by a loopback address.
func (l *Link) relayNear() bool {
	for _, r := range l.list() {
		if a := r.get(); a != nil {
			if at, err := netip.ParseAddrPort(a.name); err == nil && at.Addr().IsLoopback() {
				return true
			}
		}
	}
	return false
}

// mappedAddress reads where the relay saw a request come from (RFC 8489, section
// 14.2).
func mappedAddress(frame []byte) (netip.AddrPort, bool) {
	v, ok := guard.Find(frame, guard.AttrMappedAddress)
	if !ok || len(v) != 8 && len(v) != 20 {
		return netip.AddrPort{}, false
	}
	ip := slices.Clone(v[4:])
	for i := range ip {
		ip[i] ^= frame[4+i] // magic cookie, then the transaction's number
	}
	addr, _ := netip.AddrFromSlice(ip)
	port := binary.BigEndian.Uint16(v[2:]) ^ binary.BigEndian.Uint16(frame[4:])
	at := netip.AddrPortFrom(addr.Unmap(), port)
	return at, port != 0 && reachable(at.Addr())
}
