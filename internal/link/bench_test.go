package link

import (
	"context"
	"testing"

	"github.com/tucdesk/tucdesk/internal/wire"
)

// BenchmarkDial is the time from credential to the first datagram, on loopback.
func BenchmarkDial(b *testing.B) {
	r := startRelay(b)
	for b.Loop() {
		b.StopTimer()
		cred, _ := r.mint(wire.RelayEndpoint{UDP: r.udp})
		b.StartTimer()
		l, err := Open(context.Background(), Config{Relay: cred})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		l.Close()
		b.StartTimer()
	}
}
