package guard

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// loopback returns a UDP socket on 127.0.0.1.
func loopback(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func addrOf(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

func TestM5StrangersAndProbesNeverReachAClient(t *testing.T) {
	relay, stranger, sock := loopback(t), loopback(t), loopback(t)
	var s Stats
	c, err := NewPacketConn(sock, Options{Side: Client, Relay: addrOf(relay), Stats: &s})
	if err != nil {
		t.Fatal(err)
	}
	good := message(DataIndication, peer(9), attr(AttrData, 1))
	for _, send := range []struct {
		from  *net.UDPConn
		frame []byte
	}{
		{stranger, unhex(t, probeT3)}, {stranger, good}, {relay, unhex(t, probeT3)}, {relay, good},
	} {
		if _, err := send.from.WriteToUDPAddrPort(send.frame, addrOf(sock)); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, MaxFrame)
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, from, err := c.ReadFrom(buf)
	if err != nil || n != len(good) || addrPort(from) != addrOf(relay) {
		t.Fatalf("read %d bytes from %v: %v", n, from, err)
	}
	if s.Drops(WrongSource) != 2 || s.Drops(BadAttribute) != 1 {
		t.Errorf("counted %v", s.Snapshot())
	}
	c.SetReadDeadline(time.Now())
	if _, _, err := c.ReadFrom(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the caller's deadline gave %v", err)
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Errorf("close is not idempotent: %v", err)
		}
	}
}

func TestRelayAddressIsComparedUnmapped(t *testing.T) {
	mapped := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1).To16(), Port: 9}
	if addrPort(mapped) != netip.MustParseAddrPort("127.0.0.1:9") {
		t.Errorf("got %v", addrPort(mapped))
	}
	if _, err := NewPacketConn(loopback(t), Options{Side: Client}); err == nil {
		t.Error("a client without a relay was made")
	}
}

// flaky fails a number of reads before it reads; errors of that kind come from
// the kernel when it is short of memory.
type flaky struct {
	net.PacketConn
	failures int
}

func (f *flaky) ReadFrom(p []byte) (int, net.Addr, error) {
	if f.failures > 0 {
		f.failures--
		return 0, nil, syscall.ENOBUFS
	}
	return f.PacketConn.ReadFrom(p)
}

func TestTransientReadErrorsAreNotReturned(t *testing.T) {
	sock, other := loopback(t), loopback(t)
	c, err := NewPacketConn(&flaky{sock, 5}, Options{Side: Server})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.WriteToUDPAddrPort(message(RefreshRequest), addrOf(sock)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.ReadFrom(make([]byte, MaxFrame)); err != nil {
		t.Errorf("read: %v", err)
	}
	broken, err := NewPacketConn(&flaky{sock, 1 << 30}, Options{Side: Server})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, _, err := broken.ReadFrom(make([]byte, MaxFrame))
		done <- err
	}()
	broken.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("close gave %v", err)
	}
}

func TestClientPadsItsFirstRequestOnTheWire(t *testing.T) {
	relay, sock := loopback(t), loopback(t)
	c, err := NewPacketConn(sock, Options{Side: Client, Relay: addrOf(relay)})
	if err != nil {
		t.Fatal(err)
	}
	req := message(AllocateRequest, attr(AttrRequestedTransport, 17, 0, 0, 0))
	n, err := c.WriteTo(req, relay.LocalAddr())
	if err != nil || n != len(req) {
		t.Fatalf("wrote %d: %v", n, err)
	}
	buf := make([]byte, MaxFrame)
	if n, err = relay.Read(buf); err != nil || n != FirstRequestSize {
		t.Errorf("%d bytes on the wire: %v", n, err)
	}
}

// exhausted is a listener that is out of descriptors for a while.
type exhausted struct {
	net.Listener
	failures int
}

func (e *exhausted) Accept() (net.Conn, error) {
	if e.failures > 0 {
		e.failures--
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return e.Listener.Accept()
}

func listen(t *testing.T, opt ListenerOptions, failures int) *Listener {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := NewListener(&exhausted{l, failures}, opt)
	t.Cleanup(func() { g.Close() })
	return g
}

func dial(t *testing.T, l *Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestM11AcceptRecoversFromDescriptorExhaustion(t *testing.T) {
	l := listen(t, ListenerOptions{}, 6)
	dial(t, l)
	c, err := l.Accept()
	if err != nil {
		t.Fatalf("accept: %v", err)
	}
	c.Close()
	for range 2 {
		if err := l.Close(); err != nil {
			t.Errorf("close is not idempotent: %v", err)
		}
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept on a closed listener: %v", err)
	}
}

func TestM11ConnectionCapsHoldAndAreGivenBack(t *testing.T) {
	var s Stats
	l := listen(t, ListenerOptions{MaxPerSource: 2, Stats: &s}, 0)
	accepted := make(chan net.Conn, 4)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial(t, l)
	first := <-accepted
	dial(t, l)
	second := <-accepted
	refused := dial(t, l)
	refused.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := refused.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("connection over the cap: %v", err)
	}
	if s.Drops(TooManyConns) != 1 || l.Open() != 2 {
		t.Errorf("%d refused, %d open", s.Drops(TooManyConns), l.Open())
	}
	first.Close()
	first.Close() // gives its place back once only
	dial(t, l)
	third := <-accepted
	second.Close()
	third.Close()
	if l.Open() != 0 {
		t.Errorf("%d places lost", l.Open())
	}
	l.Close()
	<-done
}

func TestSourceKeyGroupsWhatOneCustomerHolds(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7":         "192.0.2.7/32",
		"::ffff:192.0.2.7":  "192.0.2.7/32",
		"2001:db8:1:2:3::4": "2001:db8:1::/56",
		"fe80::1%lo":        "fe80::/56",
	} {
		if got := SourceKey(netip.MustParseAddr(in)); got.String() != want {
			t.Errorf("%s: got %v, want %s", in, got, want)
		}
	}
	if SourceKey(netip.Addr{}).IsValid() {
		t.Error("no address has a key")
	}
}
