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
	for in, want := range map[string]bool{"/usr/bin/id": false, `C:\x`: false, "/usr/b\u0456n/id": true, "\xff": true, "a\u202eb": true, "Привет": true} {
		if got := terminal.Suspicious([]byte(in)) != ""; got != want {
			t.Errorf("Suspicious(%q) = %v, want %v", in, got, want)
		}
	}
}

// A reason is read and not run: people write it in their own language.
func TestTextForPeopleIsDoubtedForWhatItHidesAlone(t *testing.T) {
	for in, want := range map[string]bool{"Grüße, перезапуск nginx": false, "a\u202eb": true, "\xff": true, "x\ny": true, `C:\x`: false} {
		if got := terminal.Concealed([]byte(in)) != ""; got != want {
			t.Errorf("Concealed(%q) = %v, want %v", in, got, want)
		}
	}
}

// Each of these is another word than the one that it is read as, or is read in another
// order than it is run in.
func TestE9J5LookAlikesAreFlaggedAndWrittenOut(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"a hyphen in an option":          {"--dry\u2010run", `'--dry\u2010run'`},
		"a minus sign":                   {"\u2212n", `'\u2212n'`},
		"a non-breaking hyphen":          {"--dry\u2011run", `'--dry\u2011run'`},
		"a division slash":               {"/srv/tmp\u2215..", `'/srv/tmp\u2215..'`},
		"a fraction slash":               {"/srv\u2044tmp", `'/srv\u2044tmp'`},
		"a one dot leader":               {"/srv/tmp/\u2024", `'/srv/tmp/\u2024'`},
		"a two dot leader":               {"/srv/tmp/\u2025/x", `'/srv/tmp/\u2025/x'`},
		"a ratio":                        {"host\u223622", `'host\u223622'`},
		"a small roman numeral":          {"/bin/\u217cs", `'/bin/\u217cs'`},
		"a Latin alpha":                  {"/b\u0251ckup", `'/b\u0251ckup'`},
		"a dotless i":                    {"/b\u0131n/sh", `'/b\u0131n/sh'`},
		"a script g":                     {"/etc/\u0261roup", `'/etc/\u0261roup'`},
		"mathematical letters":           {"\U0001d5cb\U0001d5c6", `'\U0001d5cb\U0001d5c6'`},
		"fullwidth letters":              {"\uff52\uff4d", `'\uff52\uff4d'`},
		"Cyrillic, as an option":         {"-\u0435", `'-\u0435'`},
		"Cyrillic, a whole word":         {"\u0440\u0430\u0441\u0435", `'\u0440\u0430\u0441\u0435'`},
		"Greek, one letter":              {"\u03bf", `'\u03bf'`},
		"Hebrew between digits":          {"/1/\u05d0/2", `'/1/\u05d0/2'`},
		"Arabic before another option":   {"--keep=\u0627 --drop=1", `'--keep=\u0627 --drop=1'`},
		"an apostrophe that is a letter": {"a\u02bc b", `'a\u02bc b'`},
		"Lisu capitals":                  {"\ua4e1\ua4f3", `'\ua4e1\ua4f3'`},
		"an accent that is composed":     {"caf\u00e9", `'caf\u00e9'`},
	} {
		if terminal.Suspicious([]byte(c.in)) == "" {
			t.Errorf("%s: %q is not flagged", name, c.in)
		}
		if got := terminal.QuoteExact([]byte(c.in)); got != c.want {
			t.Errorf("%s: shown as %s, want %s", name, got, c.want)
		}
	}
}

func FuzzEscapeIsInertAndInjective(f *testing.F) {
	f.Add("plain", "\x1b[0m")
	f.Add(`\n`, "\n")
	f.Add(`\u00e9`, "é")
	f.Fuzz(func(t *testing.T, a, b string) {
		ea, eb := terminal.Escape(a), terminal.Escape(b)
		if !utf8.ValidString(ea) || strings.ContainsFunc(ea, unicode.IsControl) {
			t.Errorf("Escape(%q) = %q is not inert", a, ea)
		}
		if a != b && ea == eb {
			t.Errorf("%q and %q look alike: %q", a, b, ea)
		}
		xa, xb := terminal.Exact(a), terminal.Exact(b)
		if strings.ContainsFunc(xa, func(r rune) bool { return r < ' ' || r > '~' }) || a != b && xa == xb {
			t.Errorf("%q and %q are exactly %q and %q", a, b, xa, xb)
		}
	})
}
