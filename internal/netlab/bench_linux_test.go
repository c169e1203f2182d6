package netlab

import (
	"io"
	"net/netip"
	"testing"
	"time"
)

// The emulated link of the project's measurements: 50 ms there and back.
const (
	benchDelay = 25 * time.Millisecond
	benchRate  = 200e6
)

// report says what the lab itself took.
func report(b *testing.B, lab *Lab, before Cost, packets uint64, took time.Duration) {
	b.Helper()
	now := lab.Cost()
	b.ReportMetric(100*float64(now.CPU-before.CPU)/float64(took), "%core")
	b.ReportMetric(float64((now.CPU-before.CPU).Nanoseconds())/float64(packets), "cpu-ns/packet")
	b.ReportMetric(float64(now.Late.Microseconds()), "late-p50-µs")
	b.ReportMetric(float64(now.Late99.Microseconds()), "late-p99-µs")
}

// BenchmarkDatagramsOverWAN sends 1,400-byte packets one by one at 195 of the
// link's 200 Mbit/s.
func BenchmarkDatagramsOverWAN(b *testing.B) {
	const size = 1400
	const apart = size * 8 * time.Second / 195_000_000
	lab := New(b)
	inet := lab.Internet()
	from, to := inet.Host("from"), inet.Host("to")
	from.Set(WAN{Delay: benchDelay, Rate: benchRate})
	cf, ct := socket(b, from), socket(b, to)
	payload := make([]byte, size-28)
	before, start := lab.Cost(), time.Now()
	b.SetBytes(size)
	go func() {
		for i := range b.N {
			if wait := time.Until(start.Add(time.Duration(i) * apart)); wait > 0 {
				<-time.After(wait)
			}
			_, _ = cf.WriteToUDPAddrPort(payload, own(ct))
		}
	}()
	for i := range b.N {
		_ = ct.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := ct.Read(payload); err != nil {
			up, _ := from.Count()
			b.Logf("%d of %d datagrams arrived, %d found the queue full", i, b.N, up.Overflowed)
			break
		}
	}
	report(b, lab, before, uint64(b.N), time.Since(start))
}

// benchmarkTCP copies through one connection, whose kernels hand over trains.
func benchmarkTCP(b *testing.B, w WAN) {
	const chunk = 1 << 20
	lab := New(b)
	inet := lab.Internet()
	from, to := inet.Host("from"), inet.Host("to")
	for _, h := range []*Host{from, to} {
		h.Sysctl("ipv4/tcp_rmem", "4096 131072 33554432")
		h.Sysctl("ipv4/tcp_wmem", "4096 131072 33554432")
	}
	from.Set(w)
	l := listenTCP(b, to, 80)
	c := dialTCP(b, from, netip.AddrPortFrom(to.IPv4(), 80))
	_ = c.SetDeadline(time.Time{})
	b.SetBytes(chunk)
	before, start := lab.Cost(), time.Now()
	go func() {
		buffer := make([]byte, chunk)
		for range b.N {
			_, _ = c.Write(buffer)
		}
		_ = c.CloseWrite()
	}()
	sink, err := l.AcceptTCP()
	if err != nil {
		b.Fatal(err)
	}
	defer sink.Close()
	if n, err := io.Copy(io.Discard, sink); err != nil || n != int64(b.N)*chunk {
		b.Fatalf("%d bytes: %v", n, err)
	}
	up, _ := from.Count()
	report(b, lab, before, up.Packets, time.Since(start))
}

func BenchmarkTCPOverWAN(b *testing.B) { benchmarkTCP(b, WAN{Delay: benchDelay, Rate: benchRate}) }

// BenchmarkTCPOverFastWAN has delay and loss, but no limit.
func BenchmarkTCPOverFastWAN(b *testing.B) { benchmarkTCP(b, WAN{Delay: time.Millisecond}) }

func BenchmarkTCPOverWire(b *testing.B) { benchmarkTCP(b, WAN{}) }
