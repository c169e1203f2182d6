package cli

import (
	"bytes"
	"strings"
	"testing"
)

// What a program on Windows ended with is success nowhere else, also where an int has
// 32 bits and what crashed is below 0.
func TestAStatusThatDoesNotFitIsAFailure(t *testing.T) {
	for _, c := range []struct {
		status Status
		unix   int
		said   string
	}{
		{0, 0, ""}, {7, 7, ""}, {255, 255, ""},
		{256, ExitFailed, "256 (0x00000100)"},
		{0xC0000100, ExitFailed, "3221225728 (0xC0000100)"},
		{0xFFFFFFFF, ExitFailed, "4294967295 (0xFFFFFFFF)"},
	} {
		var talk bytes.Buffer
		if got := fitting(&talk, "linux", Report(&talk, c.status)); got != c.unix || !strings.Contains(talk.String(), c.said) || c.said == "" && talk.Len() > 0 {
			t.Errorf("%#x: ended with %d, said %q", uint32(c.status), got, &talk)
		}
		if got := fitting(&talk, "windows", Report(&talk, c.status)); uint32(got) != uint32(c.status) {
			t.Errorf("%#x on Windows: ended with %d", uint32(c.status), got)
		}
	}
}
