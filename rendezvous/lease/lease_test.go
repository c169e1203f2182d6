package lease

import (
	"fmt"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/identity"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("test: %v", err))
	}
	return v
}

func TestM9AlteredTicketsAreNotFound(t *testing.T) {
	t.Parallel()
	d := Desk{Keys: &identity.Keys{Grant: must(key.Generate[key.Grant]())}}
	good := must(d.SignTicket(wire.RelayTicket{Session: wire.NewSessionID(), Pair: wire.NewNonce()}))
	if _, err := d.OpenTicket(good); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		for _, bit := range []byte{1, 0x20, 0x80} {
			bad := append(statement.Signed(nil), good...)
			bad[i] ^= bit
			if _, err := d.OpenTicket(bad); refusal.Of(err) != refusal.NotFound {
				t.Fatalf("byte %d ^ %#x: %v", i, bit, err)
			}
		}
	}
	forged := must(statement.Sign(must(key.Generate[key.Grant]()), wire.RelayTicket{}))
	if _, err := d.OpenTicket(forged); refusal.Of(err) != refusal.NotFound {
		t.Fatal(err)
	}
}
