package udp

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// offload reports whether joined sends and joined receives are in use. Sends may stop
// being joined during the life of the socket.
func (c *Conn) offload() (send, receive bool) { return c.gso.Load(), c.gro }

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, addr string, opt Options) *Conn {
	t.Helper()
	c, err := Listen(netip.MustParseAddrPort(addr), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// receive collects datagrams until it has n of them.
func receive(t testing.TB, c *Conn, n int) (got [][]byte, from netip.AddrPort) {
	t.Helper()
	msgs := make([]Message, 4)
	for i := range msgs {
		msgs[i].Buf = make([]byte, MaxBatch)
	}
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	for len(got) < n {
		k, err := c.ReadBatch(msgs)
		if err != nil {
			t.Fatalf("after %d of %d datagrams: %v", len(got), n, err)
		}
		for i := range msgs[:k] {
			for d := range msgs[i].Segments() {
				got = append(got, bytes.Clone(d))
			}
			from = msgs[i].Addr
		}
	}
	return got, from
}

// pattern makes n distinguishable datagrams of size bytes, and a shorter last one.
func pattern(n, size, last int) (all []byte, want [][]byte) {
	for i := range n {
		d := bytes.Repeat([]byte{byte(i + 1)}, size)
		if i == n-1 && last > 0 {
			d = d[:last]
		}
		want = append(want, d)
		all = append(all, d...)
	}
	return all, want
}

func TestSegmentsArriveAsTheDatagramsTheyWere(t *testing.T) {
	for _, local := range []string{"127.0.0.1:0", "[::1]:0"} {
		for _, opt := range []Options{{}, {NoOffload: true}} {
			for _, tc := range []struct{ n, size, last int }{
				{1, 1200, 0}, {2, 1200, 1}, {20, 1252, 600}, {54, 1200, 7}, {55, 1200, 0}, {64, 100, 0}, {150, 100, 3}, {3, 40000, 9},
			} {
				t.Run(fmt.Sprintf("%s/%+v/%v", local, opt, tc), func(t *testing.T) {
					rx := open(t, local, Options{ReadBuffer: 1 << 20, NoOffload: opt.NoOffload})
					tx := open(t, local, opt)
					all, want := pattern(tc.n, tc.size, tc.last)
					if err := tx.WriteSegments(all, tc.size, rx.LocalAddr()); err != nil {
						t.Fatal(err)
					}
					got, from := receive(t, rx, tc.n)
					if from != tx.LocalAddr() {
						t.Errorf("from %v, want %v", from, tx.LocalAddr())
					}
					for i := range want {
						if !bytes.Equal(got[i], want[i]) {
							t.Fatalf("datagram %d of %d: %d bytes, want %d", i, tc.n, len(got[i]), len(want[i]))
						}
					}
				})
			}
		}
	}
}

func TestOffloadIsUsedWhereLinuxHasIt(t *testing.T) {
	c := open(t, "127.0.0.1:0", Options{})
	gso, gro := c.offload()
	if runtime.GOOS != "linux" && (gso || gro) {
		t.Error("offload without Linux")
	}
	if runtime.GOOS == "linux" && !(gso && gro) {
		t.Errorf("kernel offers send %v, receive %v; both exist since Linux 5.0", gso, gro)
	}
	gso, gro = open(t, "127.0.0.1:0", Options{NoOffload: true}).offload()
	if gso || gro {
		t.Error("offload although it was turned off")
	}
}

func TestJoinedReceiveKeepsItsSegmentSize(t *testing.T) {
	rx, tx := open(t, "127.0.0.1:0", Options{}), open(t, "127.0.0.1:0", Options{})
	if gso, gro := tx.offload(); !gso || !gro {
		t.Skip("this system does not join datagrams; run on Linux 5.0 or later")
	}
	all, _ := pattern(20, 1200, 500)
	if err := tx.WriteSegments(all, 1200, rx.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	msgs := []Message{{Buf: make([]byte, MaxBatch)}}
	if n, err := rx.ReadBatch(msgs); n != 1 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	if m := msgs[0]; m.N != len(all) || m.SegmentSize != 1200 || !bytes.Equal(m.Buf[:m.N], all) {
		t.Errorf("%d bytes in segments of %d", m.N, m.SegmentSize)
	}
	if err := tx.WriteTo([]byte("one"), rx.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if n, err := rx.ReadBatch(msgs); n != 1 || err != nil || msgs[0].SegmentSize != 0 {
		t.Errorf("a single datagram: %d, %v, segment size %d", n, err, msgs[0].SegmentSize)
	}
}

func TestDualStackSocketReportsIPv4AsIPv4(t *testing.T) {
	rx := open(t, "[::]:0", Options{})
	tx := open(t, "127.0.0.1:0", Options{})
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), rx.LocalAddr().Port())
	all, want := pattern(5, 300, 0)
	if err := tx.WriteSegments(all, 300, to); err != nil {
		t.Fatal(err)
	}
	got, from := receive(t, rx, 5)
	if from != tx.LocalAddr() || !bytes.Equal(got[4], want[4]) {
		t.Fatalf("from %v, want %v", from, tx.LocalAddr())
	}
	if err := rx.WriteSegments(all, 300, from); err != nil {
		t.Fatalf("back to IPv4: %v", err)
	}
	receive(t, tx, 5)
}

func TestDeadlineAndCloseEndAWaitingRead(t *testing.T) {
	c := open(t, "127.0.0.1:0", Options{})
	msgs := []Message{{Buf: make([]byte, MaxBatch)}}
	c.SetReadDeadline(time.Now().Add(-time.Second))
	if _, err := c.ReadBatch(msgs); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("deadline: %v", err)
	}
	c.SetReadDeadline(time.Time{})
	done := make(chan error)
	go func() {
		_, err := c.ReadBatch(msgs)
		done <- err
	}()
	for range 2 {
		if err := c.Close(); err != nil {
			t.Errorf("close is not idempotent: %v", err)
		}
	}
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("close: %v", err)
	}
}

func TestWriteSegmentsRefusesAnImpossibleSize(t *testing.T) {
	c := open(t, "127.0.0.1:0", Options{})
	for _, size := range []int{0, -1} {
		if err := c.WriteSegments([]byte("x"), size, c.LocalAddr()); err == nil {
			t.Errorf("size %d was taken", size)
		}
	}
	if err := c.WriteTo(make([]byte, MaxDatagram+1), c.LocalAddr()); err == nil {
		t.Error("a datagram over the maximum left")
	}
}

func TestSendingAllocatesNothing(t *testing.T) {
	rx, tx := open(t, "127.0.0.1:0", Options{}), open(t, "127.0.0.1:0", Options{})
	all, _ := pattern(10, 1200, 0)
	to := rx.LocalAddr()
	if n := testing.AllocsPerRun(200, func() { tx.WriteSegments(all, 1200, to) }); n != 0 {
		t.Errorf("joined: %v allocations", n)
	}
	if n := testing.AllocsPerRun(200, func() { tx.WriteTo(all[:1200], to) }); n != 0 {
		t.Errorf("single: %v allocations", n)
	}
}

func TestCoalescerKeepsOrderPerDestination(t *testing.T) {
	tx := open(t, "127.0.0.1:0", Options{})
	const flows = coalescerSlots + 2
	var rx [flows]*Conn
	var want [flows][][]byte
	for i := range rx {
		rx[i] = open(t, "127.0.0.1:0", Options{ReadBuffer: 1 << 20})
	}
	co := NewCoalescer(tx, func(n int, err error) { t.Errorf("sending %d bytes: %v", n, err) })
	sizes := []int{100, 100, 50, 100, 200, 200, 1, 100}
	for round := range 40 {
		for i := range rx {
			d := bytes.Repeat([]byte{byte(round)}, sizes[(round+i)%len(sizes)])
			co.Add(d, rx[i].LocalAddr())
			want[i] = append(want[i], d)
		}
	}
	co.Add(nil, rx[0].LocalAddr()) // nothing to send
	joined, parts := pattern(3, 70, 9)
	co.AddSegments(joined, 70, rx[flows-1].LocalAddr())
	want[flows-1] = append(want[flows-1], parts...)
	co.Flush()
	co.Flush()
	for i := range rx {
		got, _ := receive(t, rx[i], len(want[i]))
		for k := range want[i] {
			if !bytes.Equal(got[k], want[i][k]) {
				t.Fatalf("flow %d, datagram %d: %d bytes, want %d", i, k, len(got[k]), len(want[i][k]))
			}
		}
	}
}

func TestCoalescerReportsFailedSends(t *testing.T) {
	tx := open(t, "127.0.0.1:0", Options{})
	to := tx.LocalAddr()
	tx.Close()
	lost := 0
	co := NewCoalescer(tx, func(n int, err error) { lost += n })
	co.Add([]byte("abc"), to)
	co.Add([]byte("abc"), to)
	co.Flush()
	if lost != 6 {
		t.Errorf("%d bytes reported", lost)
	}
}

func TestSegmentsStopsWhenItsReaderDoes(t *testing.T) {
	n := 0
	for range Segments(make([]byte, 100), 10) {
		if n++; n == 3 {
			break
		}
	}
	if n != 3 {
		t.Errorf("%d segments", n)
	}
}

// BenchmarkSend measures one 1,200-byte datagram sent on loopback.
func BenchmarkSend(b *testing.B) {
	for _, joined := range []int{1, 20, 54} {
		b.Run(fmt.Sprintf("joined=%d", joined), func(b *testing.B) {
			rx, tx := open(b, "127.0.0.1:0", Options{}), open(b, "127.0.0.1:0", Options{})
			buf := make([]byte, 1200*joined)
			to := rx.LocalAddr()
			b.SetBytes(1200)
			b.ReportAllocs()
			for i := 0; i < b.N; i += joined {
				if err := tx.WriteSegments(buf, 1200, to); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestM2NothingIsSentToEverybody, whatever network this machine has come to.
func TestM2NothingIsSentToEverybody(t *testing.T) {
	c, err := Listen(netip.MustParseAddrPort("0.0.0.0:0"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, to := range []string{"127.255.255.255:9", "255.255.255.255:9"} {
		at := netip.MustParseAddrPort(to)
		if err := c.WriteTo([]byte("x"), at); err == nil {
			t.Errorf("%s was sent to", to)
		}
		if err := c.WriteSegments([]byte("xyz"), 1, at); err == nil {
			t.Errorf("%s was sent segments", to)
		}
	}
	if err := c.WriteTo([]byte("x"), netip.MustParseAddrPort("127.0.0.1:9")); err != nil {
		t.Error(err)
	}
}
