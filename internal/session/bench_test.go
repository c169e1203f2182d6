package session

import (
	"context"
	"io"
	"sync"
	"testing"

	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// benchmarkDownload measures one program's output through a whole session.
func benchmarkDownload(b *testing.B, operator, agent *Conn) {
	defer operator.Close()
	defer agent.Close()
	ctx := context.Background()
	var wg sync.WaitGroup
	defer wg.Wait()
	ch, err := operator.OpenSession(ctx)
	if err != nil {
		b.Fatal(err)
	}
	const piece = 1 << 20
	b.SetBytes(piece)
	b.ReportAllocs()
	wg.Go(func() {
		sch, err := agent.AcceptChannel(ctx)
		if err != nil {
			b.Error(err)
			return
		}
		if _, err := sch.NextRequest(ctx); err != nil {
			b.Error(err)
			return
		}
		sch.Start()
		buf := make([]byte, piece)
		for range b.N {
			if _, err := sch.Stdout().Write(buf); err != nil {
				b.Error(err)
				return
			}
		}
		sch.Exit(ctx, Exit{})
	})
	if err := ch.Shell(ctx); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	if n, err := io.Copy(io.Discard, ch.Stdout()); err != nil || n != int64(b.N)*piece {
		b.Fatalf("%d bytes: %v", n, err)
	}
	b.StopTimer()
	b.ReportMetric(float64(operator.Stats().Streams.Sent)/float64(agent.Stats().Streams.Sent), "acks/packet")
	b.ReportMetric(float64(agent.Stats().Streams.Lost), "lost")
}

func BenchmarkDownloadInMemory(b *testing.B) {
	lo, la := newMemLinks()
	operator, agent := connect(b, newShake(b), lo, la)
	benchmarkDownload(b, operator, agent)
}

func benchmarkRelay(b *testing.B, o, a func(*testRelay) wire.RelayEndpoint) {
	r := startRelay(b)
	co, ca := r.credentials(o(r), a(r))
	operator, agent := connect(b, newShake(b), dialLink(b, co), dialLink(b, ca))
	benchmarkDownload(b, operator, agent)
}

func BenchmarkDownloadRelayUDP(b *testing.B) {
	benchmarkRelay(b, (*testRelay).viaUDP, (*testRelay).viaUDP)
}

func BenchmarkDownloadRelayTCP(b *testing.B) {
	benchmarkRelay(b, (*testRelay).viaTCP, (*testRelay).viaTCP)
}

// BenchmarkDownloadDirect has nothing but two sockets between the ends.
func BenchmarkDownloadDirect(b *testing.B) {
	r := startRelay(b)
	co, ca := r.credentials(r.viaUDP(), r.viaUDP())
	operator, agent := connect(b, newShake(b),
		openLink(b, link.Config{Relay: co, Direct: true, Loopback: true}), openLink(b, link.Config{Relay: ca, Direct: true, Loopback: true}))
	until(b, "the direct path", func() bool { return operator.Path().Kind == "direct" && agent.Path().Kind == "direct" })
	benchmarkDownload(b, operator, agent)
}

// BenchmarkCredentialToFirstByte: relay allocation by both ends, CONFIRM, READY,
// channel, program start, first byte of output.
func BenchmarkCredentialToFirstByte(b *testing.B) {
	r := startRelay(b)
	for b.Loop() {
		b.StopTimer()
		s := newShake(b)
		co, ca := r.credentials(r.viaUDP(), r.viaUDP())
		b.StartTimer()
		firstByte(b, s, co, ca)
	}
}

func firstByte(b *testing.B, s shake, co, ca wire.Relay) {
	ctx := context.Background()
	var wg sync.WaitGroup
	var agent *Conn
	wg.Go(func() {
		var err error
		if agent, err = Accept(ctx, s.accept(dialLink(b, ca))); err != nil {
			b.Error(err)
			return
		}
		sch, err := agent.AcceptChannel(ctx)
		if err != nil {
			b.Error(err)
			return
		}
		if _, err := sch.NextRequest(ctx); err == nil {
			sch.Start()
			sch.Stdout().Write([]byte("$"))
		}
	})
	operator, err := Dial(ctx, s.dial(dialLink(b, co)))
	if err != nil {
		b.Fatal(err)
	}
	ch, err := operator.OpenSession(ctx)
	if err != nil {
		b.Fatal(err)
	}
	if err := ch.Shell(ctx); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(ch.Stdout(), make([]byte, 1)); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	wg.Wait()
	operator.Close()
	agent.Close()
	b.StartTimer()
}
