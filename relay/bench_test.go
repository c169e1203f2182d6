package relay

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/udp"
	"github.com/tucdesk/tucdesk/relay/guard"
)

const benchPayload = 1196 // with its header a frame of 1,200 bytes

// benchPair makes a bound pair and hands their sockets over to plain senders.
func benchPair(b *testing.B, s *Server) (operator, agent *raw) {
	oc, ac := mint(s)
	return dialRaw(b, s, "udp", oc).join(), dialRaw(b, s, "udp", ac).join()
}

// BenchmarkForward measures one 1,200-byte datagram from one client through the
// relay to the other on loopback; sender, relay and receiver share the machine.
// "direct" leaves the relay out, so the difference in cpu-ns/op is the relay's.
// joined is how many datagrams the sender puts into one call.
func BenchmarkForward(b *testing.B) {
	for _, joined := range []int{1, 20, 50} {
		for _, way := range []string{"direct", "relay"} {
			b.Run(fmt.Sprintf("joined=%d/%s", joined, way), func(b *testing.B) { benchForward(b, joined, way == "direct") })
		}
	}
}

// inFlight is how many datagrams the benchmark keeps under way: what the socket
// buffers of a default system hold.
const inFlight = 150

func benchForward(b *testing.B, joined int, direct bool) {
	s := serve(b, nil)
	o, a := benchPair(b, s)
	to, _ := s.Addr()
	tx, rx := rebind(b, o), rebind(b, a)
	if direct {
		to = rx.LocalAddr()
	}
	arrived := make(chan int, 1024)
	go count(rx, arrived)
	var burst []byte
	for range joined {
		burst = append(burst, frame(repeat('x', benchPayload))...)
	}
	b.SetBytes(1200)
	b.ResetTimer()
	start, sent, got, lost := cpu(b), 0, 0, 0
	for sent < b.N || got+lost < sent {
		if sent < b.N && sent-got-lost < inFlight {
			if err := tx.WriteSegments(burst, 1200, to); err != nil {
				b.Fatal(err)
			}
			sent += joined
			continue
		}
		select {
		case n := <-arrived:
			got += n
		case <-time.After(50 * time.Millisecond):
			lost = sent - got
		}
	}
	b.StopTimer()
	b.ReportMetric(float64((cpu(b)-start).Nanoseconds())/float64(sent), "cpu-ns/op")
	b.ReportMetric(100*float64(lost)/float64(sent), "%lost")
	rx.Close()
	for range arrived {
	}
}

// rebind opens the client's port again as a socket that joins datagrams.
func rebind(b *testing.B, c *raw) *udp.Conn {
	local := netip.MustParseAddrPort(c.conn.LocalAddr().String())
	c.conn.Close()
	conn, err := udp.Listen(local, udp.Options{ReadBuffer: socketBuffer, WriteBuffer: socketBuffer})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return conn
}

// count reports what arrives until conn is closed.
func count(conn *udp.Conn, arrived chan<- int) {
	defer close(arrived)
	msgs := make([]udp.Message, 8)
	for i := range msgs {
		msgs[i].Buf = make([]byte, udp.MaxBatch)
	}
	for {
		n, err := conn.ReadBatch(msgs)
		if err != nil {
			return
		}
		total := 0
		for i := range msgs[:n] {
			for range msgs[i].Segments() {
				total++
			}
		}
		arrived <- total
	}
}

// BenchmarkReceive measures the relay's own work per datagram, without any
// system call: table, checks, pairing, counters.
func BenchmarkReceive(b *testing.B) {
	s := serve(b, func(c *Config) { c.TCP = netip.AddrPort{} })
	o, a := benchPair(b, s)
	from := netip.MustParseAddrPort(o.conn.LocalAddr().String())
	peer := s.table.tuple(netip.MustParseAddrPort(a.conn.LocalAddr().String()))
	st := &stream{s: s, wake: make(chan struct{}, 1)} // takes frames without a socket
	peer.stream = st
	m := udp.Message{Buf: make([]byte, udp.MaxBatch), Addr: from, SegmentSize: 1200}
	for range 20 {
		m.N += copy(m.Buf[m.N:], frame(repeat('x', benchPayload)))
	}
	out := udp.NewCoalescer(s.sock, nil)
	now := time.Now()
	b.ReportAllocs()
	b.SetBytes(1200)
	for i := 0; i < b.N; i += 20 {
		s.receive(&m, out, now)
		st.queue = st.queue[:0]
	}
	if _, _, err := guard.ParseChannelData(m.Buf[:1200]); err != nil {
		b.Fatal(err)
	}
}
