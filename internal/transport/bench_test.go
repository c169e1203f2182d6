package transport

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/quic-go/quic-go"
)

const piece = 1 << 20

// benchmarkStream measures one stream from the agent's end to the operator's.
func benchmarkStream(b *testing.B, w io.WriteCloser, r io.Reader) {
	b.SetBytes(piece)
	b.ReportAllocs()
	var wg sync.WaitGroup
	b.ResetTimer()
	wg.Go(func() {
		buf := make([]byte, 32<<10)
		for range b.N * piece / len(buf) {
			if _, err := w.Write(buf); err != nil {
				b.Error(err)
				return
			}
		}
		w.Close()
	})
	n, err := io.Copy(io.Discard, r)
	b.StopTimer()
	wg.Wait()
	if err != nil || n != int64(b.N)*piece {
		b.Fatalf("%d bytes: %v", n, err)
	}
}

type closer struct{ *Stream }

func (c closer) Close() error { return c.CloseWrite() }

func benchmarkConn(b *testing.B, operator, agent *Conn) {
	defer operator.Close()
	defer agent.Close()
	s, err := agent.OpenStream(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	s.Write([]byte{1})
	r, err := operator.AcceptStream(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	io.ReadFull(r, make([]byte, 1))
	benchmarkStream(b, closer{s}, r)
}

func BenchmarkInMemory(b *testing.B) {
	x, y := newPipes()
	operator, agent := connect(b, x, y)
	benchmarkConn(b, operator, agent)
}

// BenchmarkConnect is the processor time of both ends' handshake, certificates
// included.
func BenchmarkConnect(b *testing.B) {
	for b.Loop() {
		x, y := newPipes()
		operator, agent := connect(b, x, y)
		operator.Close()
		agent.Close()
	}
}

func BenchmarkIdentities(b *testing.B) {
	for b.Loop() {
		if _, err := newIdentities(secret); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPeerPlainQUIC is the peer: the same library on plain UDP sockets over
// loopback, without our seal, relay or packet connection, at its own packet size
// and at ours.
func BenchmarkPeerPlainQUIC(b *testing.B) {
	for _, size := range []uint16{1200, 1452} {
		b.Run("packets of "+map[uint16]string{1200: "1200", 1452: "1452"}[size], func(b *testing.B) {
			id, err := newIdentities(secret)
			if err != nil {
				b.Fatal(err)
			}
			conf := config(Few)
			conf.InitialPacketSize = size
			server, client := plain(b), plain(b)
			l, err := server.Listen(id.agentTLS(), conf)
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			q, err := client.Dial(context.Background(), server.Conn.LocalAddr(), id.operatorTLS(), conf)
			if err != nil {
				b.Fatal(err)
			}
			defer q.CloseWithError(0, "")
			sq, err := l.Accept(context.Background())
			if err != nil {
				b.Fatal(err)
			}
			s, err := sq.OpenStream()
			if err != nil {
				b.Fatal(err)
			}
			s.Write([]byte{1})
			r, err := q.AcceptStream(context.Background())
			if err != nil {
				b.Fatal(err)
			}
			io.ReadFull(r, make([]byte, 1))
			benchmarkStream(b, s, r)
		})
	}
}

func plain(b *testing.B) *quic.Transport {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	t := &quic.Transport{Conn: c}
	b.Cleanup(func() { t.Close(); c.Close() })
	return t
}
