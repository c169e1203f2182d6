package strict

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

var seeds = []string{
	`{}`, `null`, `[]`, `{"token":null}`, `{"request":{"payload":"","type":"x","kid":"","sig":""},"open":"AAAA"}`,
	`{"type":"accept","id":1,"body":{"accept":"AA"}}`, `{"type":"audit","id":0,"body":{"entries":[]}}`, `{"a":1,"A":1}`, "{\"\xff\":1}", `{"id":1e999}`,
	strings.Repeat("[", 20), `{"type":"roster","id":18446744073709551615,"body":{"version":0,"ahead":[]}}`,
}

func encoded(t *testing.T, v any) []byte {
	t.Helper()
	text, err := Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// What is taken decodes again from its own encoding to the same, and is what the
// plain decoder reads: the strict one only ever refuses more.
func FuzzDecode(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var body wire.SessionOpen
		if err := Decode(data, &body); err != nil {
			if refusal.Of(err) != refusal.BadRequest {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		var plain, again wire.SessionOpen
		if err := json.Unmarshal(data, &plain); err != nil {
			t.Fatalf("taken, but not JSON: %v", err)
		}
		text := encoded(t, body)
		if err := Decode(text, &again); err != nil {
			t.Fatalf("own encoding refused: %v", err)
		}
		if !bytes.Equal(text, encoded(t, again)) || !bytes.Equal(text, encoded(t, plain)) {
			t.Fatal("two readings of one text")
		}
	})
}

// TestK2ListsAreCountedBeforeTheyAreDecoded: of {} in six megabytes came 335 MB.
func TestK2ListsAreCountedBeforeTheyAreDecoded(t *testing.T) {
	var into struct{ List []struct{ A [100]byte } }
	for n, want := range map[int]refusal.Code{maxElements: "", maxElements + 1: refusal.BadRequest} {
		text := `{"list":[` + strings.TrimSuffix(strings.Repeat("{},", n), ",") + `]}`
		if err := Decode([]byte(text), &into); refusal.Of(err) != want || want == "" && err != nil {
			t.Errorf("%d elements: %v", n, err)
		}
	}
}

func TestScanBounds(t *testing.T) {
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
