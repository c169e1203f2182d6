package terminal_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/terminal"
)

// Whoever approves a command reads the names in it in the order in which they are. What turns
// text around is written out, so it turns nothing, and the name is said to be odd.
func TestJ5TextThatTurnsAroundIsWrittenOutAndFlagged(t *testing.T) {
	for _, r := range "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069" {
		name := "/srv/invoice-" + string(r) + "fdp.exe"
		want := fmt.Sprintf(`/srv/invoice-\u%04xfdp.exe`, r)
		if got := terminal.Escape(name); got != want {
			t.Errorf("Escape(%q) = %q", name, got)
		}
		if got := terminal.Quote([]byte(name)); !strings.Contains(got, want) || strings.ContainsRune(got, r) {
			t.Errorf("Quote(%q) = %q", name, got)
		}
		if terminal.Suspicious([]byte(name)) == "" {
			t.Errorf("%q is not flagged", name)
		}
	}
}
