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
		{"~#~?ls\r", "ls\r", false, 1},
		{"~\x1a~?ls\r", "ls\r", false, 1},
		{"~C~.", "", true, 0},
		{"~\r~?", "~\r", false, 1},
		{"x~\r~~~.", "x~\r~~.", false, 0},
		{"~B~R", "~B~R", false, 0},
	}
	for _, c := range cases {
		for _, one := range []bool{false, true} {
			var src io.Reader = strings.NewReader(c.in)
			if one { // each key by itself, as a person types
				src = iotest.OneByteReader(src)
			}
			var said strings.Builder
			left, stopped := false, false
			got, err := io.ReadAll(&escapes{
				in: src, say: &said, char: '~', leave: func() { left = true }, suspend: func() error { stopped = true; return nil },
				state: func() string { return "by relay" }, list: func() string { return "none open" },
			})
			if err != nil || string(got) != c.out || left != c.left || strings.Count(said.String(), "this help") != c.help {
				t.Errorf("%q (one by one %v): sent %q, left %v, said %q, %v", c.in, one, got, left, said.String(), err)
			}
			if stopped != strings.Contains(c.in, "\x1a") || strings.Contains(said.String(), "none open") != strings.Contains(c.in, "~#") {
				t.Errorf("%q: stopped %v, said %q", c.in, stopped, said.String())
			}
			if strings.Contains(said.String(), "\r\nby relay\r\n") != strings.HasPrefix(c.in, "~s") {
				t.Errorf("%q: said %q", c.in, said.String())
			}
		}
	}
}

func TestEscapeCharacterIsTheOneChosen(t *testing.T) {
	for _, c := range []struct {
		char     string
		in, out  string
		left, ok bool
	}{
		{"", "~.", "", true, true},
		{"%", "~.\r%.", "~.\r", true, true},
		{"^B", "~.\r\x02\x02\r\x02.", "~.\r\x02\r", true, true},
		{"none", "~.\x00.", "~.\x00.", false, true},
		{"ab", "", "", false, false},
	} {
		o := sshOptions{escape: c.char}
		char, err := o.escapeChar()
		if (err == nil) != c.ok {
			t.Errorf("-e %q: %v", c.char, err)
		}
		if !c.ok {
			continue
		}
		left := false
		got, err := io.ReadAll(&escapes{in: strings.NewReader(c.in), say: io.Discard, char: char, leave: func() { left = true }})
		if err != nil || string(got) != c.out || left != c.left {
			t.Errorf("-e %q: sent %q, left %v, %v", c.char, got, left, err)
		}
	}
}
