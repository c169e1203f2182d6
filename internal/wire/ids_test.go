package wire_test

import (
	"bytes"
	"encoding"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/wire"
)

func TestIdentifiersHaveOneSpelling(t *testing.T) {
	good := strings.Repeat("0af9", 8)
	for _, id := range []interface {
		encoding.TextUnmarshaler
		encoding.TextMarshaler
	}{new(wire.TeamID), new(wire.SessionID), new(wire.Nonce)} {
		if err := id.UnmarshalText([]byte(good)); err != nil {
			t.Errorf("%T: %v", id, err)
		}
		if text, err := id.MarshalText(); err != nil || string(text) != good {
			t.Errorf("%T writes %q, %v", id, text, err)
		}
		for _, bad := range []string{"", good[1:], good + "0", strings.ToUpper(good), good[:31] + "g", good[:31] + "\n", " " + good[1:], "0x" + good[2:]} {
			if id.UnmarshalText([]byte(bad)) == nil {
				t.Errorf("%T takes %q", id, bad)
			}
		}
	}
}

func TestIdentifiersAreRandom(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		for _, id := range []string{wire.NewNonce().String(), wire.NewSessionID().String(), wire.NewTeamID().String()} {
			if seen[id] {
				t.Fatalf("%s twice", id)
			}
			seen[id] = true
		}
	}
}

func TestBytesHaveOneSpelling(t *testing.T) {
	for in, want := range map[string]string{"": "", "AA": "\x00", "_-8": "\xff\xef", "aGVsbG8": "hello"} {
		var b wire.Bytes
		if err := b.UnmarshalText([]byte(in)); err != nil || string(b) != want {
			t.Errorf("%q is %q, %v", in, b, err)
		}
	}
	for _, bad := range []string{"A", "AB", "AA==", "+-8", "AA\n", "A\nA", "AA\r\n", "\n", " AA", "a GV"} {
		var b wire.Bytes
		if b.UnmarshalText([]byte(bad)) == nil {
			t.Errorf("takes %q as %q", bad, b)
		}
	}
	if raw, err := json.Marshal(wire.Params{}); err != nil || !bytes.Contains(raw, []byte(`"cwd":""`)) {
		t.Errorf("nil bytes are not the empty string: %s, %v", raw, err)
	}
}

func TestMillisDropWhatIsBelow(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 123_999_999, time.FixedZone("", 3600))
	if got := wire.At(at).Time(); !got.Equal(at.Truncate(time.Millisecond)) || got.Location() != time.UTC {
		t.Errorf("%v became %v", at, got)
	}
}

func FuzzTextThatParsesIsTheTextThatIsWritten(f *testing.F) {
	for _, seed := range []string{"", "AA", "A\nA", "aGVsbG8", strings.Repeat("0", 32), strings.Repeat("F", 32)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, v := range []interface {
			encoding.TextUnmarshaler
			encoding.TextMarshaler
		}{new(wire.TeamID), new(wire.SessionID), new(wire.Nonce), new(wire.Bytes)} {
			if v.UnmarshalText([]byte(text)) != nil {
				continue
			}
			if again, err := v.MarshalText(); err != nil || string(again) != text {
				t.Errorf("%T reads %q and writes %q, %v", v, text, again, err)
			}
		}
	})
}
