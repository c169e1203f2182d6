package agents

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
	"github.com/tucdesk/tucdesk/rendezvous/store"
)

// A database that hangs holds up neither who takes leave of an agent, and with it the
// agent's socket, nor for long a server that stops, however many teams there are.
func TestDeparturesWaitForNoDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "db"))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		release, held, hung := make(chan struct{}), make(chan struct{}), make(chan error)
		go func() {
			hung <- db.InTx(t.Context(), principal.TeamID{}, func(*store.Tx) error {
				close(held)
				<-release
				return nil
			})
		}()
		<-held
		life, stop := context.WithCancel(t.Context())
		d := &Desk{Store: db, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Life: life}
		begin := time.Now()
		for team := range byte(20) {
			d.leaves(departure{principal.Trusted(wire.TeamID{team}), key.ID{1}, begin})
		}
		if took := time.Since(begin); took > 0 {
			t.Errorf("leaving took %v", took)
		}
		stop()
		begin = time.Now()
		d.Close()
		d.Close()
		if took := time.Since(begin); took > noteWithin {
			t.Errorf("stopping took %v", took)
		}
		close(release)
		if err := <-hung; err != nil {
			t.Error(err)
		}
	})
}
