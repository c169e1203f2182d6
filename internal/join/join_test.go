package join

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is two ends of a TCP connection.
func pair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	d, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{c, d} {
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		t.Cleanup(func() { _ = c.Close() })
	}
	return c.(*net.TCPConn), d.(*net.TCPConn)
}

func TestBothDirectionsArriveAndEndByThemselves(t *testing.T) {
	near, a := pair(t)
	b, far := pair(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		if ab, ba := Both(a, b); ab != 3<<20 || ba != 4 {
			t.Errorf("%d bytes there, %d back", ab, ba)
		}
	})
	data := make([]byte, 3<<20)
	rand.Read(data)
	wg.Go(func() {
		_, _ = near.Write(data)
		_ = near.CloseWrite()
	})
	if got, err := io.ReadAll(far); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes arrived: %v", len(got), err)
	}
	_, _ = far.Write([]byte("late"))
	_ = far.CloseWrite()
	if got, err := io.ReadAll(near); string(got) != "late" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	wg.Wait()
}

func TestACutIsPassedOnAsACut(t *testing.T) {
	near, a := pair(t)
	b, far := pair(t)
	done := make(chan struct{})
	go func() { defer close(done); Both(a, b) }()
	_, _ = near.Write([]byte("half"))
	if _, err := io.ReadFull(far, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	_ = near.SetLinger(0)
	_ = near.Close()
	if n, err := far.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("the other end sees %d bytes and %v, which is a good end", n, err)
	}
	<-done
}
