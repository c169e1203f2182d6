package terminal

import (
	"bytes"
	"encoding/json"
	"testing"
)

// TestJ1JSONIsInert: it says the same, and nothing in it commands a terminal or turns text
// around.
func TestJ1JSONIsInert(t *testing.T) {
	in := "a\x7fb\u009b31mc\u202ed\u200be\u00a0f\U000e0041g \u00e4\u4e16\U0001f600 \\ \" \n \x1b"
	var b bytes.Buffer
	if err := json.NewEncoder(JSON(&b)).Encode(in); err != nil {
		t.Fatal(err)
	}
	var out string
	if err := json.Unmarshal(b.Bytes(), &out); err != nil || out != in {
		t.Errorf("%q is read as %q: %v", in, out, err)
	}
	for _, r := range b.String() {
		switch r {
		case 0x7f, 0x9b, 0x202e, 0x200b, 0xa0, 0xe0041, 0x1b:
			t.Errorf("%U is in %s", r, b.String())
		}
	}
	if !bytes.Contains(b.Bytes(), []byte("\u00e4\u4e16\U0001f600")) {
		t.Errorf("letters are not readable: %s", b.String())
	}
}
