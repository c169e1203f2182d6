package worker

import (
	"encoding/json"
	"testing"

	"github.com/tucdesk/tucdesk/internal/wire"
)

func TestTheNewestCredentialCounts(t *testing.T) {
	w := &worker{relays: make(chan wire.Relay, 1)}
	for _, name := range []string{"first", "second"} {
		w.renewed(marshal(t, wire.Relay{Username: name}))
	}
	w.renewed([]byte("[]"))
	if r := <-w.relays; r.Username != "second" || len(w.relays) != 0 {
		t.Errorf("got %q, %d left", r.Username, len(w.relays))
	}
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
