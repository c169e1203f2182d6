package guard

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// parcels is a connection that keeps the boundaries of what is written.
type parcels struct {
	net.Conn // its deadlines and addresses
	in       chan []byte
	sent     [][]byte
}

func (p *parcels) Read(b []byte) (int, error) {
	if d, ok := <-p.in; ok {
		return copy(b, d), nil
	}
	return p.Conn.Read(b) // waits for the deadline
}

func (p *parcels) Write(b []byte) (int, error) {
	p.sent = append(p.sent, bytes.Clone(b))
	return len(b), nil
}

func newParcels(t *testing.T, in ...[]byte) (*parcels, *Datagrams, *Stats) {
	t.Helper()
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	p, stats := &parcels{Conn: a, in: make(chan []byte, len(in))}, &Stats{}
	for _, d := range in {
		p.in <- d
	}
	close(p.in)
	d, err := NewDatagrams(p, Options{Side: Server, Stats: stats})
	if err != nil {
		t.Fatal(err)
	}
	return p, d, stats
}

func TestDatagramsHandOutGoodFramesOnly(t *testing.T) {
	good := []byte{0x40, 0, 0, 5, 'h', 'e', 'l', 'l', 'o'} // unpadded, as datagrams may be
	synctest.Test(t, func(t *testing.T) {
		_, d, stats := newParcels(t, []byte("\x16\xfe\xfd"), good, nil, append(bytes.Clone(good), "1234"...), good)
		start := time.Now()
		for range 2 {
			if got, err := d.Next(); err != nil || !bytes.Equal(got, good) {
				t.Fatalf("% x, %v", got, err)
			}
		}
		if d.Pending() {
			t.Error("something waits")
		}
		if _, err := d.Next(); err != TooSlow {
			t.Errorf("after the last: %v", err)
		}
		if got := time.Since(start); got != IdleTimeout {
			t.Errorf("it waited %v", got)
		}
		var refused uint64
		for _, n := range stats.Snapshot() {
			refused += n
		}
		if refused != 4 {
			t.Errorf("%v", stats.Snapshot())
		}
	})
}

func TestM11FirstFrameOfADatagramConnectionHasItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, d, _ := newParcels(t, []byte("no frame"), []byte("no frame either"))
		start := time.Now()
		if _, err := d.Next(); err != TooSlow || time.Since(start) != FirstFrameTimeout {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestDatagramsSplitWhatLiesAsOnAStream(t *testing.T) {
	p, d, _ := newParcels(t)
	one, two := []byte{0x40, 0, 0, 1, 'x', 0, 0, 0}, append([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...)
	last := []byte{0x40, 0, 0, 2, 'y', 'z'}
	both := append(append(append([]byte(nil), one...), two...), last...)
	if n, err := d.Write(both); err != nil || n != len(both) {
		t.Fatalf("%d, %v", n, err)
	}
	if len(p.sent) != 3 || !bytes.Equal(p.sent[0], one) || !bytes.Equal(p.sent[1], two) || !bytes.Equal(p.sent[2], last) {
		t.Errorf("% x", p.sent)
	}
	for _, bad := range [][]byte{{1}, {0x40, 0, 0xff, 0xfc}, {0xff, 0, 0, 0}} {
		if n, err := d.Write(append(bytes.Clone(one), bad...)); err == nil || n != len(one) {
			t.Errorf("% x: %d, %v", bad, n, err)
		}
	}
}

func TestDatagramsReadIntoTooSmallABufferFails(t *testing.T) {
	_, d, _ := newParcels(t, []byte{0x40, 0, 0, 1, 'x'}, []byte{0x40, 0, 0, 1, 'x'})
	if _, err := d.Read(make([]byte, 4)); !errors.Is(err, io.ErrShortBuffer) {
		t.Error(err)
	}
	if n, err := d.Read(make([]byte, 5)); err != nil || n != 5 {
		t.Error(n, err)
	}
	if _, err := NewDatagrams(nil, Options{}); err == nil {
		t.Error("no side")
	}
}

func TestGateIsSharedAndLeftOnce(t *testing.T) {
	g := NewGate(3, 2)
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	leave, ok := g.Enter(a)
	if !ok {
		t.Fatal("the first")
	}
	g.Enter(a)
	if _, ok := g.Enter(a); ok {
		t.Error("a third from one source")
	}
	if _, ok := g.Enter(b); !ok {
		t.Error("another source")
	}
	if _, ok := g.Enter(b); ok {
		t.Error("a fourth in all")
	}
	leave()
	leave()
	if g.Open() != 2 {
		t.Errorf("%d places taken", g.Open())
	}
	if _, ok := g.Enter(b); !ok {
		t.Error("the place given back")
	}
}
