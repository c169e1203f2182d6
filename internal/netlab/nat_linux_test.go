package netlab

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// outside is two strangers on the internet, one with two sockets, and a host
// behind a NAT.
type outside struct {
	t     *testing.T
	lab   *Lab
	inet  *Network
	nat   *NAT
	home  *Host
	in    *net.UDPConn
	a, a2 *net.UDPConn // of one host
	b     *net.UDPConn // of another
}

func behind(t *testing.T, behaviour Behaviour) *outside {
	t.Helper()
	o := &outside{t: t, lab: New(t)}
	o.inet = o.lab.Internet()
	a, b := o.inet.Host("a"), o.inet.Host("b")
	o.nat = o.inet.NAT(behaviour)
	o.home = o.nat.Host("home")
	o.in = socket(t, o.home)
	o.a, o.a2, o.b = socket(t, a), socket(t, a), socket(t, b)
	return o
}

// out sends from inside and returns what the receiver takes for the sender.
func (o *outside) out(to *net.UDPConn) netip.AddrPort {
	o.t.Helper()
	send(o.t, o.in, own(to), "out")
	return expect(o.t, to, "out")
}

// passes sends from outside to a mapping and expects it inside, with its address.
func (o *outside) passes(from *net.UDPConn, to netip.AddrPort) {
	o.t.Helper()
	send(o.t, from, to, "in")
	if got := expect(o.t, o.in, "in"); got != own(from) {
		o.t.Errorf("inside it came from %v, want %v", got, own(from))
	}
}

func (o *outside) stopped(from *net.UDPConn, to netip.AddrPort) {
	o.t.Helper()
	stopped(o.t, o.nat.Link, from, to)
	// What was stopped would arrive before what is sent now.
	send(o.t, o.a, o.out(o.a), "in")
	expect(o.t, o.in, "in")
}

func TestMappingDoesNotDependOnTheDestinationBehindCones(t *testing.T) {
	t.Parallel()
	for _, behaviour := range []Behaviour{FullCone, RestrictedCone, PortRestricted} {
		o := behind(t, behaviour)
		first := o.out(o.a)
		if first.Addr() != o.nat.IPv4() || first.Port() == own(o.in).Port() {
			t.Errorf("behaviour %d: mapped %v to %v", behaviour, own(o.in), first)
		}
		for _, to := range []*net.UDPConn{o.a2, o.b, o.a} {
			if again := o.out(to); again != first {
				t.Errorf("behaviour %d: mapped to %v and %v", behaviour, first, again)
			}
		}
	}
}

func TestMappingDependsOnTheDestinationBehindSymmetric(t *testing.T) {
	t.Parallel()
	o := behind(t, Symmetric)
	a, a2, b := o.out(o.a), o.out(o.a2), o.out(o.b)
	if a == a2 || a == b || a2 == b {
		t.Errorf("mapped to %v, %v, %v", a, a2, b)
	}
	if again := o.out(o.a); again != a {
		t.Errorf("one destination, mapped to %v and %v", a, again)
	}
}

func TestFullConeLetsEverybodyIn(t *testing.T) {
	t.Parallel()
	o := behind(t, FullCone)
	mapped := o.out(o.a)
	for _, from := range []*net.UDPConn{o.a, o.a2, o.b} {
		o.passes(from, mapped)
	}
}

func TestRestrictedConeLetsKnownAddressesIn(t *testing.T) {
	t.Parallel()
	o := behind(t, RestrictedCone)
	mapped := o.out(o.a)
	o.passes(o.a, mapped)
	o.passes(o.a2, mapped)
	o.stopped(o.b, mapped)
	o.out(o.b)
	o.passes(o.b, mapped)
}

func TestPortRestrictedLetsKnownPortsIn(t *testing.T) {
	t.Parallel()
	o := behind(t, PortRestricted)
	mapped := o.out(o.a)
	o.passes(o.a, mapped)
	o.stopped(o.a2, mapped)
	o.stopped(o.b, mapped)
	o.out(o.a2)
	o.passes(o.a2, mapped)
}

func TestSymmetricLetsTheDestinationIn(t *testing.T) {
	t.Parallel()
	o := behind(t, Symmetric)
	toA, toB := o.out(o.a), o.out(o.b)
	o.passes(o.a, toA)
	o.passes(o.b, toB)
	o.stopped(o.a, toB)
	o.stopped(o.b, toA)
	o.stopped(o.a2, toA)
}

func TestNATDropsWhatNobodyAskedFor(t *testing.T) {
	t.Parallel()
	o := behind(t, FullCone)
	o.stopped(o.a, netip.AddrPortFrom(o.nat.IPv4(), 4242))
}

func TestTwoHostsShareOneAddress(t *testing.T) {
	t.Parallel()
	o := behind(t, PortRestricted)
	other := socket(t, o.nat.Host("other"))
	first := o.out(o.a)
	send(t, other, own(o.a), "other")
	second := expect(t, o.a, "other")
	if first.Addr() != second.Addr() || first.Port() == second.Port() {
		t.Errorf("mapped to %v and %v", first, second)
	}
	send(t, o.a, second, "to other")
	expect(t, other, "to other")
}

func TestHostsBehindOneNATReachEachOtherInside(t *testing.T) {
	t.Parallel()
	o := behind(t, Symmetric)
	other := socket(t, o.nat.Host("other"))
	send(t, other, own(o.in), "inside")
	if from := expect(t, o.in, "inside"); from != own(other) {
		t.Errorf("came from %v", from)
	}
}

func TestHairpin(t *testing.T) {
	t.Parallel()
	o := behind(t, FullCone)
	other := socket(t, o.nat.Host("other"))
	mapped := o.out(o.a)
	up, _ := o.nat.Count()
	send(t, other, mapped, "dropped")
	eventually(t, "the packet is dropped", func() bool { now, _ := o.nat.Count(); return now.Blocked > up.Blocked })
	o.nat.Hairpin(true)
	send(t, other, mapped, "hairpin")
	if from := expect(t, o.in, "hairpin"); from.Addr() != o.nat.IPv4() {
		t.Errorf("came from %v, want the public address", from)
	}
}

func TestRebindingChangesThePort(t *testing.T) {
	t.Parallel()
	o := behind(t, FullCone)
	before := o.out(o.a)
	o.nat.Rebind()
	o.stopped(o.a2, before)
	after := o.out(o.a)
	if after == before {
		t.Errorf("still mapped to %v", after)
	}
	o.passes(o.a, after)
}

func TestMappingTimesOut(t *testing.T) {
	t.Parallel()
	o := behind(t, FullCone)
	before := o.out(o.a)
	o.nat.Timeout(0)
	stopped(t, o.nat.Link, o.a2, before)
	o.nat.Timeout(time.Hour)
	if after := o.out(o.a); after == before {
		t.Errorf("still mapped to %v", after)
	}
}

func TestRouterGetsAnotherAddress(t *testing.T) {
	t.Parallel()
	o := behind(t, PortRestricted)
	before := o.out(o.a)
	o.nat.Renumber()
	after := o.out(o.a)
	if after.Addr() == before.Addr() || after.Addr() != o.nat.IPv4() {
		t.Errorf("mapped to %v, then to %v", before, after)
	}
	o.passes(o.a, after)
}

func TestTwoConesCanBePunched(t *testing.T) {
	t.Parallel()
	o := behind(t, PortRestricted)
	there := o.inet.NAT(PortRestricted)
	in := socket(t, there.Host("there"))
	here := o.out(o.a) // a plays the relay that tells both their addresses
	send(t, in, own(o.a), "out")
	far := expect(t, o.a, "out")
	stopped(t, there.Link, o.in, far) // opens our side
	send(t, in, here, "punched")
	if from := expect(t, o.in, "punched"); from != far {
		t.Errorf("came from %v, want %v", from, far)
	}
}

func TestNestedNATs(t *testing.T) {
	t.Parallel()
	o := behind(t, FullCone)
	inner := o.nat.NAT(FullCone)
	in := socket(t, inner.Host("deep"))
	send(t, in, own(o.a), "out")
	mapped := expect(t, o.a, "out")
	if mapped.Addr() != o.nat.IPv4() {
		t.Errorf("mapped to %v", mapped)
	}
	send(t, o.a, mapped, "in")
	expect(t, in, "in")
}

func TestTCPThroughNAT(t *testing.T) {
	t.Parallel()
	o := behind(t, Symmetric)
	server := o.inet.Host("server")
	echoed := make(chan error, 1)
	l := listenTCP(t, server, 443)
	go func() { echoed <- echo(l) }()
	c := dialTCP(t, o.home, netip.AddrPortFrom(server.IPv4(), 443))
	text := make([]byte, 1<<20)
	go func() { _, _ = c.Write(text); _ = c.CloseWrite() }()
	got, err := io.ReadAll(c)
	if err != nil || len(got) != len(text) {
		t.Errorf("%d of %d bytes came back: %v", len(got), len(text), err)
	}
	if err := <-echoed; err != nil {
		t.Error(err)
	}
}

func TestIPv6BehindAFirewall(t *testing.T) {
	t.Parallel()
	o := behind(t, PortRestricted)
	if o.home.IPv6().IsValid() {
		t.Fatal("IPv6 without RouteIPv6")
	}
	o.nat.RouteIPv6()
	home, far := o.nat.Host("six"), o.inet.Host("far")
	in, out := listen(t, home, home.IPv6()), listen(t, far, far.IPv6())
	stopped(t, o.nat.Link, out, own(in))
	send(t, in, own(out), "out")
	if from := expect(t, out, "out"); from != own(in) {
		t.Errorf("came from %v, want it untranslated", from)
	}
	send(t, out, own(in), "in")
	expect(t, in, "in")
}

// listenTCP listens on all addresses of a host.
func listenTCP(t testing.TB, h *Host, port uint16) *net.TCPListener {
	t.Helper()
	var l *net.TCPListener
	if err := h.Do(func() (err error) { l, err = net.ListenTCP("tcp", &net.TCPAddr{Port: int(port)}); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func dialTCP(t testing.TB, h *Host, to netip.AddrPort) *net.TCPConn {
	t.Helper()
	var c *net.TCPConn
	if err := h.Do(func() (err error) { c, err = net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(to)); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(3 * patience))
	return c
}

// echo serves one connection.
func echo(l *net.TCPListener) error {
	c, err := l.AcceptTCP()
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = io.Copy(c, c)
	return err
}
