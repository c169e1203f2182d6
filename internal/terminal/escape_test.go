package terminal_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/tucdesk/tucdesk/internal/terminal"
)

func TestE9E10NothingReachesTheTerminalUnescaped(t *testing.T) {
	cases := map[string]string{
		"plain text":                 "plain text",
		"Grüße, 世界":                  "Grüße, 世界",
		"a\x1b[2Jb":                  `a\x1b[2Jb`,
		"\x1b]52;c;cm0=\a":           `\x1b]52;c;cm0=\x07`,
		"two\nlines\r":               `two\nlines\r`,
		"back\\slash":                `back\\slash`,
		"\xff\xfe":                   `\xff\xfe`,
		"rm \u202etxt.exe":           `rm \u202etxt.exe`,
		"zero\u200bwidth":            `zero\u200bwidth`,
		"\u009b31m":                  `\u009b31m`,
		"nb\u00a0sp":                 `nb\u00a0sp`,
		"e\u0301":                    `e\u0301`,
		"tag\U000e0041":              `tag\U000e0041`,
		"del\x7f":                    `del\x7f`,
		"\u3164filler\u2800":         `\u3164filler\u2800`,
		"line\u2028sep\u2066iso":     `line\u2028sep\u2066iso`,
		"tab\tand vs\ufe0f is shown": `tab\tand vs\ufe0f is shown`,
	}
	for in, want := range cases {
		if got := terminal.Escape(in); got != want {
			t.Errorf("Escape(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestQuoteShowsWhereAnArgumentEnds(t *testing.T) {
	for in, want := range map[string]string{"": "''", "a b": "'a b'", "ls": "ls", "it's": `'it\'s'`, "$(x)": "'$(x)'", "a\nb": `'a\nb'`} {
		if got := terminal.Quote([]byte(in)); got != want {
			t.Errorf("Quote(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestSuspiciousNamesTheReason(t *testing.T) {
	for in, want := range map[string]bool{"/usr/bin/id": false, `C:\x`: false, "/usr/b\u0456n/id": true, "\xff": true, "a\u202eb": true, "Привет": false} {
		if got := terminal.Suspicious([]byte(in)) != ""; got != want {
			t.Errorf("Suspicious(%q) = %v, want %v", in, got, want)
		}
	}
}

func FuzzEscapeIsInertAndInjective(f *testing.F) {
	f.Add("plain", "\x1b[0m")
	f.Add(`\n`, "\n")
	f.Fuzz(func(t *testing.T, a, b string) {
		ea, eb := terminal.Escape(a), terminal.Escape(b)
		if !utf8.ValidString(ea) || strings.ContainsFunc(ea, unicode.IsControl) {
			t.Errorf("Escape(%q) = %q is not inert", a, ea)
		}
		if a != b && ea == eb {
			t.Errorf("%q and %q look alike: %q", a, b, ea)
		}
	})
}
