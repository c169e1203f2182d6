package wire

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestRequestsWithoutAKeptShellAreEncodedAsBefore: their one encoding is what was
// signed before the field existed.
func TestRequestsWithoutAKeptShellAreEncodedAsBefore(t *testing.T) {
	raw, err := json.Marshal(Params{User: "ann", TTY: true})
	if want := `{"user":"ann","argv":null,"cwd":"","env":null,"tty":true}`; err != nil || string(raw) != want {
		t.Errorf("%s, %v", raw, err)
	}
	raw, err = json.Marshal(Params{Keep: &Keep{Do: KeepOpen, Name: "build"}})
	if err != nil || !strings.Contains(string(raw), `"keep":{"do":"open","name":"build"}`) {
		t.Errorf("%s, %v", raw, err)
	}
}

func TestJ1NamesOfKeptShellsAreHarmless(t *testing.T) {
	for _, name := range []string{"a", "build", "Build-1.2_x", strings.Repeat("n", maxKeepName)} {
		if k := (Keep{Do: KeepAttach, Name: name}); !k.Valid() {
			t.Errorf("%q is refused", name)
		}
	}
	for _, name := range []string{"", ".", "-x", "_x", "a b", "a/b", "../a", "a\x1b[2J", "ä", "a\n", "a\x00", strings.Repeat("n", maxKeepName+1)} {
		if k := (Keep{Do: KeepOpen, Name: name}); k.Valid() {
			t.Errorf("%q is taken", name)
		}
	}
	for _, k := range []Keep{{}, {Do: "steal", Name: "a"}, {Do: KeepList, Name: "a"}, {Do: KeepKill}} {
		if k.Valid() {
			t.Errorf("%+v is taken", k)
		}
	}
}
