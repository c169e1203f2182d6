package policy

import (
	"os"
	"strings"
	"testing"
)

// docExample returns the indented block of the package doc that follows "The file".
func docExample(t testing.TB) string {
	data, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "// # The file")
	rest, _, _ = strings.Cut(rest, "// # How rules combine")
	var b strings.Builder
	for line := range strings.Lines(rest) {
		if code, ok := strings.CutPrefix(line, "//\t"); ok {
			b.WriteString(code)
		} else if strings.TrimSpace(line) == "//" {
			b.WriteString("\n")
		}
	}
	return b.String()
}
