package refusal

import (
	"strings"
	"testing"
)

func TestOnlyNamesAreCodes(t *testing.T) {
	for _, good := range []Code{KeyRevoked, "x", "a_1", Code(strings.Repeat("a", MaxCode))} {
		if !good.Valid() || Plain(good) != good {
			t.Errorf("%q is no code", good)
		}
	}
	for _, bad := range []Code{"Key_revoked", "a b", "a\x1b[2J", "ä", "a-b", "a\x00", Code(strings.Repeat("a", MaxCode+1))} {
		if bad.Valid() || Plain(bad) != ProtocolError {
			t.Errorf("%q is a code", bad)
		}
	}
	if Code("").Valid() || Plain("") != "" {
		t.Error("no code is no refusal, and none that a peer may send")
	}
}
