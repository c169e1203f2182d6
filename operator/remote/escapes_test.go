package remote

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestEscapesAreActedOnAtLineStartsOnly(t *testing.T) {
	cases := []struct {
		in, out string
		left    bool
		help    int
	}{
		{"ls\r", "ls\r", false, 0},
		{"~.", "", true, 0},
		{"ls\r~.never sent", "ls\r", true, 0},
		{"cd ~.config\r", "cd ~.config\r", false, 0},
		{"~~.", "~.", false, 0},
		{"~?ls\r", "ls\r", false, 1},
		{"~x\r", "~x\r", false, 0},
		{"a\n~?~.", "a\n", true, 1},
		{"~s~?ls\r", "ls\r", false, 1},
		{"l~s\r", "l~s\r", false, 0},
	}
	for _, c := range cases {
		for _, one := range []bool{false, true} {
			var src io.Reader = strings.NewReader(c.in)
			if one { // each key by itself, as a person types
				src = iotest.OneByteReader(src)
			}
			var said strings.Builder
			left := false
			got, err := io.ReadAll(&escapes{in: src, say: &said, leave: func() { left = true }, state: func() string { return "by relay" }})
			if err != nil || string(got) != c.out || left != c.left || strings.Count(said.String(), "this help") != c.help {
				t.Errorf("%q (one by one %v): sent %q, left %v, said %q, %v", c.in, one, got, left, said.String(), err)
			}
			if strings.Contains(said.String(), "\r\nby relay\r\n") != strings.HasPrefix(c.in, "~s") {
				t.Errorf("%q: said %q", c.in, said.String())
			}
		}
	}
}
