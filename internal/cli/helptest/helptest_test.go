package helptest

import (
	"strings"
	"testing"
)

func TestLinesAreReadAsAShellReadsThem(t *testing.T) {
	for line, want := range map[string]string{
		"prog ls":                         "ls",
		"prog run --url x   # first":      "run/--url/x",
		"xzcat a.xz | prog verify -":      "verify/-",
		"prog export | xz > a.xz":         "export",
		"prog ping web && prog ssh web":   "ping/web && ssh/web",
		"prog join - < /root/token":       "join/-",
		"prog ssh web 'a | b' \"c d\" ''": "ssh/web/a | b/c d/",
	} {
		var got []string
		ours, _ := typed("prog", line)
		for _, args := range ours {
			got = append(got, strings.Join(args, "/"))
		}
		if strings.Join(got, " && ") != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// A line that runs none of ours is no example, but for what reaches machines by them.
func TestLinesOfNoProgramAreFound(t *testing.T) {
	for line, want := range map[string]string{"porg ls": "porg", "ssh web.tucdesk": "", "cat x | porg ls -": "cat", "# only words": "", "": ""} {
		if ours, strange := typed("prog", line); len(ours) > 0 || strange != want {
			t.Errorf("%q: %q and %q, want %q", line, ours, strange, want)
		}
	}
}
