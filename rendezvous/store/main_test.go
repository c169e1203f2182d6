package store

import (
	"os"
	"testing"

	"github.com/tucdesk/tucdesk/rendezvous/store/pgtest"
)

// pg is shared by the tests of this binary; each takes a database of its own.
var pg pgtest.Cluster

func TestMain(m *testing.M) {
	if dsn := os.Getenv(writerEnv); dsn != "" {
		writeUntilKilled(dsn)
		return
	}
	code := m.Run()
	pg.Stop()
	os.Exit(code)
}
