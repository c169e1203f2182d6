package operator

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// However an export arrives, and whatever stands before its last line.
func TestEntriesOfAnExportAreInItsLastLine(t *testing.T) {
	for log, want := range map[string]int64{
		"": -1, "{}\n": -1, "{\"end\":7}": 7, "{\"end\":0}\n": 0, strings.Repeat("{\"end\":5}\n", 99) + "{\"end\":1234567890123}\n": 1234567890123,
		"{\"checkpoint\":\"" + strings.Repeat("x", 999) + "\"}\n{\"end\":42}\n": 42, "{\"end\":42}\n{\"checkpoint\":\"" + strings.Repeat("x", 999) + "\"}\n": -1,
	} {
		for _, r := range []io.Reader{strings.NewReader(log), iotest.OneByteReader(strings.NewReader(log)), iotest.HalfReader(strings.NewReader(log))} {
			var end lastLine
			if _, err := io.Copy(&end, io.LimitReader(r, 1<<20)); err != nil || end.entries() != want || len(end.kept) > maxLastLine {
				t.Errorf("%.60q: %d, %v, want %d", log, end.entries(), err, want)
			}
		}
	}
}
