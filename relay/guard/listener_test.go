package guard

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
	refused.SetReadDeadline(time.Now().Add(30 * time.Second))
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
