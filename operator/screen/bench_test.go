package screen

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"
)

// loads are what floods a terminal.
func loads() map[string][]byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	var log, colours, letters bytes.Buffer
	for i := 0; log.Len() < 1<<20; i++ {
		fmt.Fprintf(&log, "%06d %s the quick brown fox\r\n", i, bytes.Repeat([]byte("x"), rnd.IntN(60)))
		fmt.Fprintf(&colours, "\x1b[0m\x1b[01;34mdir%d\x1b[0m  \x1b[38;5;%dmfile\x1b[m\x1b[K\r\n", i, i%256)
		fmt.Fprintf(&letters, "żółw 日本語 жук %d\r\n", i)
	}
	return map[string][]byte{"log": log.Bytes(), "colours": colours.Bytes(), "letters": letters.Bytes()}
}

// BenchmarkOutput is a large file through cat, in the pieces a session brings.
func BenchmarkOutput(b *testing.B) {
	for name, load := range loads() {
		b.Run(name, func(b *testing.B) {
			s := New(Config{Out: io.Discard, Columns: 120, Rows: 40, RTT: func() time.Duration { return slowLink }})
			b.SetBytes(int64(len(load)))
			b.ReportAllocs()
			for b.Loop() {
				for rest := load; len(rest) > 0; {
					n := min(len(rest), 32<<10)
					_, _ = s.Write(rest[:n])
					rest = rest[n:]
				}
			}
		})
	}
}

// BenchmarkKey is one key, shown and then confirmed.
func BenchmarkKey(b *testing.B) {
	s := New(Config{Out: io.Discard, Columns: 120, Rows: 40, Mode: Always, RTT: func() time.Duration { return slowLink }})
	_, _ = s.Write([]byte("$ "))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%100 == 0 {
			_, _ = s.Write([]byte("\r\n$ "))
		}
		s.Typed([]byte("x"))
		_, _ = s.Write([]byte("x"))
	}
}
