package netlab

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/sidebyside"
	"go.uber.org/goleak"
)

// patience bounds a test that fails.
const patience = time.Minute

func TestMain(m *testing.M) {
	sidebyside.Tests(8)
	goleak.VerifyTestMain(m)
}

func must[V any](v V, err error) V {
	if err != nil {
		panic(err)
	}
	return v
}

// listen opens a UDP socket on a host, by the address of today.
func listen(t testing.TB, h *Host, addr netip.Addr) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	err := h.Do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetReadBuffer(4 << 20)
	return c
}

func socket(t testing.TB, h *Host) *net.UDPConn { t.Helper(); return listen(t, h, h.IPv4()) }

func own(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

func send(t testing.TB, c *net.UDPConn, to netip.AddrPort, text string) {
	t.Helper()
	if _, err := c.WriteToUDPAddrPort([]byte(text), to); err != nil {
		t.Fatal(err)
	}
}

// heard returns the next datagram and whose address it bears.
func heard(t testing.TB, c *net.UDPConn) (string, netip.AddrPort) {
	t.Helper()
	b := make([]byte, 65536)
	_ = c.SetReadDeadline(time.Now().Add(patience))
	n, from, err := c.ReadFromUDPAddrPort(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n]), netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
}

// expect reads one datagram and returns where it came from.
func expect(t testing.TB, c *net.UDPConn, text string) netip.AddrPort {
	t.Helper()
	got, from := heard(t, c)
	if got != text {
		t.Fatalf("heard %q from %v, want %q", got, from, text)
	}
	return from
}

func TestHostsReachEachOther(t *testing.T) {
	t.Parallel()
	inet := New(t).Internet()
	a, b := inet.Host("a"), inet.Host("b")
	for _, pair := range [][2]netip.Addr{{a.IPv4(), b.IPv4()}, {a.IPv6(), b.IPv6()}} {
		ca, cb := listen(t, a, pair[0]), listen(t, b, pair[1])
		send(t, ca, own(cb), "hello")
		if from := expect(t, cb, "hello"); from != own(ca) {
			t.Errorf("came from %v, want %v", from, own(ca))
		}
	}
}

func TestCommandRunsOnTheHost(t *testing.T) {
	t.Parallel()
	a := New(t).Internet().Host("a")
	out, err := a.Command(context.Background(), "ip", "-4", "-o", "addr", "show", "dev", "eth0").CombinedOutput()
	if want := a.IPv4().String(); err != nil || !contains(out, want) {
		t.Errorf("%v: %s; want %s", err, out, want)
	}
	if list := must(net.Interfaces()); len(list) > 0 {
		for _, i := range list {
			if i.HardwareAddr.String() == net.HardwareAddr(hardware[:]).String() {
				t.Errorf("the host's interface is in our namespace: %v", i)
			}
		}
	}
}

func contains(b []byte, s string) bool {
	for i := 0; i+len(s) <= len(b); i++ {
		if string(b[i:i+len(s)]) == s {
			return true
		}
	}
	return false
}

func TestTrafficOfTwoLabsStaysApart(t *testing.T) {
	t.Parallel()
	a, b := New(t).Internet().Host("a"), New(t).Internet().Host("b")
	if a.IPv4() != b.IPv4() {
		t.Fatalf("%v and %v: labs number their hosts differently", a.IPv4(), b.IPv4())
	}
	c := socket(t, a)
	send(t, c, netip.AddrPortFrom(netip.MustParseAddr("198.18.2.10"), 9), "lost")
	if _, down := b.Count(); down.Packets != 0 {
		t.Error("a packet crossed labs")
	}
}

var errTest = errors.New("of the test")

func TestDoReturnsTheError(t *testing.T) {
	t.Parallel()
	if err := New(t).Internet().Host("a").Do(func() error { return errTest }); err != errTest {
		t.Errorf("got %v", err)
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// stopped sends a datagram that must be stopped on its way down a link.
func stopped(t *testing.T, l *Link, c *net.UDPConn, to netip.AddrPort) {
	t.Helper()
	_, before := l.Count()
	send(t, c, to, "stopped")
	eventually(t, "the packet is stopped", func() bool { _, now := l.Count(); return now.Blocked == before.Blocked+1 })
}
