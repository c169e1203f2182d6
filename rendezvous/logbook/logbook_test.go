package logbook

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
	"github.com/tucdesk/tucdesk/rendezvous/store"
)

// What has come and was stored meanwhile, once a second, is waited for no longer.
func TestStoredCosignaturesHaveCome(t *testing.T) {
	var c cosigners
	for n := byte(1); n <= 2; n++ {
		c.add(7, store.Cosigned{Signer: key.ID{n}})
		if size, list := c.take(); size != 7 || len(list) != 1 {
			t.Fatalf("%d of %d", len(list), size)
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	c.await(t.Context(), 7, 2)
	c.await(ended, 7, 3)                        // nobody else comes
	c.add(0, store.Cosigned{Signer: key.ID{9}}) // of an older one, after all
	c.await(t.Context(), 6, 99)                 // a newer one is there: nobody cosigns that any more
	var empty cosigners
	empty.add(0, store.Cosigned{Signer: key.ID{1}})
	empty.await(t.Context(), 0, 1)
}

// Who asks for a checkpoint while another call signs one waits for it: what it did
// before must be covered when it is answered. Nor does an export pass by cosignatures
// that are being stored.
func TestCheckpointWaitsForTheOneUnderWay(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		lock func(*Log) *sync.Mutex
		call func(*Log) error
	}{
		"signing": {func(l *Log) *sync.Mutex { return &l.sealing }, func(l *Log) error { return l.Seal(t.Context(), "rv1") }},
		"storing": {func(l *Log) *sync.Mutex { return &l.storing }, func(l *Log) error { return l.StoreCosigned(t.Context()) }},
	} {
		l := New(nil, key.Private[key.Audit]{}, slog.New(slog.DiscardHandler), principal.TeamID{}) // no database: it finds nothing to do
		under := tc.lock(l)
		under.Lock() // another call is at it: it has taken note of what there is
		l.grew.Store(false)
		answered := make(chan error, 1)
		go func() { answered <- tc.call(l) }()
		for range 100 {
			runtime.Gosched()
		}
		select {
		case err := <-answered:
			t.Errorf("%s: answered before the other was done: %v", name, err)
			under.Unlock()
			continue
		default:
		}
		under.Unlock()
		if err := <-answered; err != nil {
			t.Error(err)
		}
	}
}
