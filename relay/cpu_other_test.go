//go:build !unix

package relay

import (
	"testing"
	"time"
)

func cpu(t testing.TB) time.Duration {
	t.Helper()
	t.Skip("no processor time on this system; run on a Unix")
	return 0
}
