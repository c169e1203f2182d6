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
		"prog ping web && prog ssh web":   "ping/web",
		"prog join - < /root/token":       "join/-",
		"prog ssh web 'a | b' \"c d\" ''": "ssh/web/a | b/c d/",
	} {
		if args, ok := typed("prog", line); !ok || strings.Join(args, "/") != want {
			t.Errorf("%q: %q, want %q", line, args, want)
		}
	}
	if args, ok := typed("prog", "other ls"); ok {
		t.Errorf("another program's line gives %q", args)
	}
}
