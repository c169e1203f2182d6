package link

import (
	"context"
	"testing"

	"github.com/tucdesk/tucdesk/internal/path"
	"github.com/tucdesk/tucdesk/relay/credential"
)

// BenchmarkOpen is the time from credential to the first datagram, on loopback.
func BenchmarkOpen(b *testing.B) {
	r := startFull(b, credential.NewSecret())
	for _, k := range allKinds {
		b.Run(string(k), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				cred, _ := r.mint(r.only(k))
				b.StartTimer()
				l, err := Open(context.Background(), Config{Relay: cred})
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				l.Close()
				b.StartTimer()
			}
		})
	}
}

// benchSize is that of a sealed packet with its headroom (design 4.2).
const (
	benchSize  = 1252
	benchBatch = 40
)

// carry measures datagrams from one end to the other, with both in this process.
// What the receiver cannot take is lost; bytes are those that arrive.
func carry(b *testing.B, from, to *Link, v path.Via) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	came := make(chan int, 1<<10)
	go func() {
		defer close(came)
		for {
			batch, err := to.ReadBatch(ctx)
			if err != nil {
				return
			}
			came <- len(batch)
		}
	}()
	buf := make([]byte, benchBatch*benchSize)
	b.SetBytes(benchBatch * (benchSize - Headroom))
	b.ReportAllocs()
	sent, got := 0, 0
	for b.Loop() {
		for i := range benchBatch {
			buf[i*benchSize+Headroom] = 0xd4
		}
		if err := from.WriteSegments(v, buf, benchSize); err != nil {
			b.Fatal(err)
		}
		for sent += benchBatch; sent-got > 4*benchBatch; {
			got += <-came // a window, as the streams above have it
		}
	}
	cancel()
	for n := range came {
		got += n
	}
	b.ReportMetric(float64(sent-got)/float64(sent), "lost/sent")
}

func BenchmarkDirect(b *testing.B) {
	r := startFull(b, credential.NewSecret())
	co, ca := r.mint(r.only(RelayUDP))
	operator, agent := open(b, Config{Relay: co, Direct: true}), open(b, Config{Relay: ca, Direct: true})
	carry(b, operator, agent, directTo(agent))
}

func BenchmarkRelayed(b *testing.B) {
	r := startFull(b, credential.NewSecret())
	for _, k := range allKinds {
		b.Run(string(k), func(b *testing.B) {
			operator, agent := pair(b, &r.testRelay, r.only(k), r.only(RelayUDP))
			ready(b, operator, agent)
			carry(b, operator, agent, relay1)
		})
	}
}

// BenchmarkDirectMove is the part of a direct send that moves the datagrams
// together over their headrooms.
func BenchmarkDirectMove(b *testing.B) {
	buf := make([]byte, benchBatch*benchSize)
	b.SetBytes(benchBatch * (benchSize - Headroom))
	for b.Loop() {
		together(buf, benchSize)
	}
}
