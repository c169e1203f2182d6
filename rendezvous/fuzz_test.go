package rendezvous

import (
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/channel"
	"github.com/tucdesk/tucdesk/rendezvous/sessions"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
)

var bodySeeds = []string{
	`{}`, `null`, `[]`, `{"token":null}`, `{"request":{"payload":"","type":"x","kid":"","sig":""},"open":"AAAA"}`,
	`{"type":"accept","id":1,"body":{"accept":"AA"}}`, `{"type":"audit","id":0,"body":{"entries":[]}}`, `{"a":1,"A":1}`, "{\"\xff\":1}", `{"id":1e999}`,
	strings.Repeat("[", 20), `{"type":"roster","id":18446744073709551615,"body":{"version":0,"ahead":[]}}`,
}

func FuzzDecodeFrame(f *testing.F) {
	for _, s := range bodySeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, err := channel.Decode(data)
		if err != nil {
			if refusal.Of(err) != refusal.ProtocolError {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		again, err := channel.Decode(must(strict.Encode(frame)))
		if err != nil || again.Type != frame.Type || again.ID != frame.ID {
			t.Fatalf("%+v became %+v, %v", frame, again, err)
		}
		// No body makes the handlers of a channel panic, whatever it holds.
		var h wire.HeartbeatReply
		var w wire.RosterWant
		var e wire.AuditEntries
		for _, into := range []any{&h, &w, &e} {
			_ = strict.Decode(frame.Body, into)
		}
		_, _, _ = sessions.ReadAnswer(frame)
	})
}
