package netlab

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// T is what a lab needs of a test; every testing.TB is one. Fatalf must not
// return.
type T interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// Lab is everything of one test. It, and what is made from it, may be used by
// several goroutines.
type Lab struct {
	t      T
	engine *engine
	nets   int // networks made so far; guarded by engine.mu, as what follows
	hosts  []*Host
}

// New makes an empty lab, which ends with the test. Without root, or without what
// the package needs, the test is skipped, but fails where the variable CI is true.
func New(t T) *Lab {
	t.Helper()
	if missing := Missing(); missing != "" {
		if os.Getenv("CI") == "true" {
			t.Fatalf("netlab needs %s", missing)
		}
		t.Skipf("netlab needs %s", missing)
	}
	if err := killStale(); err != nil {
		t.Fatalf("looking for what an earlier lab has left: %v", err)
	}
	e, err := newEngine()
	if err != nil {
		t.Fatalf("starting the lab: %v", err)
	}
	l := &Lab{t: t, engine: e}
	t.Cleanup(l.close)
	return l
}

// Missing names what this machine lacks for a lab, "" for nothing.
func Missing() string {
	var list []string
	if os.Geteuid() != 0 {
		list = append(list, "root")
	}
	if f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err != nil {
		list = append(list, "/dev/net/tun (modprobe tun)")
	} else {
		_ = f.Close()
	}
	for _, x := range []struct{ program, pkg string }{{"ip", "iproute2"}, {"nsenter", "util-linux"}} {
		if _, err := exec.LookPath(x.program); err != nil {
			list = append(list, fmt.Sprintf("the program %s (apt-get install %s)", x.program, x.pkg))
		}
	}
	return strings.Join(list, ", ")
}

// Cost is what the lab itself took so far.
func (l *Lab) Cost() Cost { return l.engine.measured() }

func (l *Lab) locked(f func()) {
	l.engine.mu.Lock()
	defer l.engine.mu.Unlock()
	f()
}

// close ends the lab:
//  1. kill what runs on its hosts, so that nothing sends any more
//  2. end the thread that reads the interfaces
//  3. give up the interfaces, and the namespaces with them
func (l *Lab) close() {
	l.t.Helper()
	var hosts []*Host
	l.locked(func() { hosts = l.hosts })
	var spaces []uint64
	for _, h := range hosts {
		spaces = append(spaces, h.inode)
	}
	if err := killNamespaces(spaces...); err != nil {
		l.t.Fatalf("ending the hosts: %v", err)
	}
	l.engine.close()
	for _, h := range hosts {
		_ = unix.Close(h.tap)
		_ = h.space.Close()
	}
}

// Network is where hosts and NATs are: the internet, or what is behind a NAT.
type Network struct {
	lab   *Lab
	nat   *NAT                 // where everything else is; nil for the internet
	index int                  // of this network in the lab
	next  int                  // of the next address; guarded by engine.mu, as what follows
	links map[netip.Addr]*Link // who has which address
}

// Internet makes a network of public addresses: 198.18.x.10, each in a /24 of its
// own, and 2001:2:0:x::10. Two internets know nothing of each other.
func (l *Lab) Internet() *Network { return l.newNetwork(nil) }

func (l *Lab) newNetwork(nat *NAT) *Network {
	n := &Network{lab: l, nat: nat, links: map[netip.Addr]*Link{}}
	l.locked(func() { n.index = l.nets; l.nets++ })
	return n
}

// address is where one host or NAT is attached.
type address struct {
	v4, v6     netip.Addr // v6 is zero where there is none
	gw4, gw6   netip.Addr
	len4, len6 int
}

// maxAddresses bounds what one network gives out, renumbered hosts included; our
// choice.
const maxAddresses = 240

// addressLocked returns the next free address.
func (n *Network) addressLocked() address {
	if n.next++; n.next > maxAddresses {
		n.lab.t.Fatalf("a network has given out all of its %d addresses", maxAddresses)
	}
	i := byte(n.next)
	a := address{len4: 24, len6: 64}
	if n.nat == nil {
		a.v4, a.gw4 = netip.AddrFrom4([4]byte{198, 18 + byte(n.index&1), i, 10}), netip.AddrFrom4([4]byte{198, 18 + byte(n.index&1), i, 1})
		a.v6, a.gw6 = v6(byte(n.index), i, 10), v6(byte(n.index), i, 1)
		return a
	}
	a.v4, a.gw4 = netip.AddrFrom4([4]byte{10, 0, byte(n.index), 9 + i}), netip.AddrFrom4([4]byte{10, 0, byte(n.index), 1})
	if n.nat.routes6 {
		a.v6, a.gw6 = v6(0x80|byte(n.index), 0, 9+i), v6(0x80|byte(n.index), 0, 1)
	}
	return a
}

// v6 is an address of 2001:2::/48, which RFC 5180 keeps for measurements.
func v6(net, subnet, host byte) netip.Addr {
	return netip.AddrFrom16([16]byte{0x20, 1, 0, 2, 0, 0, net, subnet, 15: host})
}

// attachLocked gives a link the addresses, in place of those it had.
func (n *Network) attachLocked(l *Link, a address) {
	n.detachLocked(l)
	n.links[a.v4] = l
	if !a.v6.IsValid() {
		return
	}
	n.links[a.v6] = l
	for at := n; at.nat != nil; at = at.nat.outer { // addresses of version 6 are public everywhere
		at.nat.outer.links[a.v6] = at.nat.Link
	}
}

func (n *Network) detachLocked(l *Link) {
	for addr, have := range n.links {
		if have != l {
			continue
		}
		delete(n.links, addr)
		for at := n; addr.Is6() && at.nat != nil; at = at.nat.outer {
			delete(at.nat.outer.links, addr)
		}
	}
}

// routeLocked hands a frame to whom it is addressed, or outwards.
func (n *Network) routeLocked(f *frame) {
	if l, ok := n.links[f.dst.Addr()]; ok {
		l.enterLocked(false, f)
	} else if n.nat != nil {
		n.nat.outboundLocked(f)
	}
}
