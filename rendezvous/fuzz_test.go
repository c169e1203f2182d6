package rendezvous

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

var bodySeeds = []string{
	`{}`, `null`, `[]`, `{"token":null}`, `{"request":{"payload":"","type":"x","kid":"","sig":""},"open":"AAAA"}`,
	`{"type":"accept","id":1,"body":{"accept":"AA"}}`, `{"type":"audit","id":0,"body":{"entries":[]}}`, `{"a":1,"A":1}`, "{\"\xff\":1}", `{"id":1e999}`,
	strings.Repeat("[", 20), `{"type":"roster","id":18446744073709551615,"body":{"version":0,"ahead":[]}}`,
}

// What is taken decodes again from its own encoding to the same, and is what the
// plain decoder reads: the strict one only ever refuses more.
func FuzzDecodeStrict(f *testing.F) {
	for _, s := range bodySeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var body wire.SessionOpen
		if err := decodeStrict(data, &body); err != nil {
			if refusal.Of(err) != refusal.BadRequest {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		var plain, again wire.SessionOpen
		if err := json.Unmarshal(data, &plain); err != nil {
			t.Fatalf("taken, but not JSON: %v", err)
		}
		text := must(encode(body))
		if err := decodeStrict(text, &again); err != nil {
			t.Fatalf("own encoding refused: %v", err)
		}
		if !bytes.Equal(text, must(encode(again))) || !bytes.Equal(text, must(encode(plain))) {
			t.Fatal("two readings of one text")
		}
	})
}

func FuzzDecodeFrame(f *testing.F) {
	for _, s := range bodySeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, err := decodeFrame(data)
		if err != nil {
			if refusal.Of(err) != refusal.ProtocolError {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		again, err := decodeFrame(must(encode(frame)))
		if err != nil || again.Type != frame.Type || again.ID != frame.ID {
			t.Fatalf("%+v became %+v, %v", frame, again, err)
		}
		// No body makes the handlers of a channel panic, whatever it holds.
		var h wire.HeartbeatReply
		var w wire.RosterWant
		var e wire.AuditEntries
		for _, into := range []any{&h, &w, &e} {
			_ = decodeStrict(frame.Body, into)
		}
		_, _, _ = readAnswer(frame)
	})
}

func FuzzFindRoute(f *testing.F) {
	for _, r := range routes() {
		f.Add(r.path)
	}
	f.Add("/v1//tokens")
	f.Fuzz(func(t *testing.T, path string) {
		for _, r := range routes() {
			found, vars, _ := find(routes(), r.method, path)
			if found == nil {
				continue
			}
			filled := found.path
			for name, value := range vars {
				if value == "" || strings.Contains(value, "/") {
					t.Fatalf("%q fills %s with %q", path, name, value)
				}
				filled = strings.Replace(filled, "{"+name+"}", value, 1)
			}
			if filled != path {
				t.Fatalf("%q went to %q", path, found.path)
			}
		}
	})
}

func TestScanBounds(t *testing.T) {
	t.Parallel()
	var many strings.Builder
	for i := range maxNames + 1 {
		if i > 0 {
			many.WriteString(",")
		}
		many.WriteString(`"n` + strings.Repeat("x", i) + `":1`)
	}
	for name, tc := range map[string]struct {
		text string
		ok   bool
	}{
		"deepest":   {strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth), true},
		"deeper":    {strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1), false},
		"many":      {"{" + many.String() + "}", false},
		"same name": {`{"a":{"b":1,"c":{"b":1}},"d":{"b":1}}`, true},
		"twice":     {`{"a":1,"b":2,"a":3}`, false},
		"value":     {`{"a":"a","b":"a"}`, true},
		"space":     {" {} \n", true},
		"cut":       {`{"a":`, false},
		"escaped":   {`{"a":1,"\u0061":2}`, false},
	} {
		if err := scan([]byte(tc.text)); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
