package receive

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/tucdesk/tucdesk/internal/filecopy"
	"github.com/tucdesk/tucdesk/internal/filecopy/send"
)

// BenchmarkSmallFiles is what both ends cost without a network between them.
func BenchmarkSmallFiles(b *testing.B) {
	from := filepath.Join(b.TempDir(), "t")
	data := randomBytes(4096)
	for i := range 2000 {
		write(b, filepath.Join(from, fmt.Sprint(i/100), fmt.Sprint(i)), data)
	}
	b.SetBytes(2000 * 4096)
	for b.Loop() {
		run(b, send.Config{Paths: []string{from}, Flags: filecopy.Recursive}, Config{Path: b.TempDir(), Flags: filecopy.Recursive}).fine(b)
	}
}

func BenchmarkOneFile(b *testing.B) {
	from := filepath.Join(b.TempDir(), "f")
	write(b, from, randomBytes(128<<20))
	b.SetBytes(128 << 20)
	for b.Loop() {
		run(b, send.Config{Paths: []string{from}}, Config{Path: b.TempDir()}).fine(b)
	}
}
