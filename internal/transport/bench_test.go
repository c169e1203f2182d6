package transport

import (
	"context"
	"io"
	"sync"
	"testing"
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

// BenchmarkConnect is the processor time of both ends' handshake.
func BenchmarkConnect(b *testing.B) {
	for b.Loop() {
		x, y := newPipes()
		operator, agent := connect(b, x, y)
		operator.Close()
		agent.Close()
	}
}
