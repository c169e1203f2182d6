package endtoend

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestAPingGoesOnInTheNextSession: a ping's session ends after minutes, or after what
// the policy says, and who watches a path overnight must not lose it there.
func TestAPingGoesOnInTheNextSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(_ *world, p *plan) { p.policy = rules + "\n[limits]\nsession = \"4s\"\n" })
	w.agent("web", "web")
	a := w.ann.run("ping", "-c", "10", "--json", "web").is(t, 0)
	lines := strings.Split(strings.TrimSpace(a.out), "\n")
	var sum struct {
		Type           string
		Sent, Answered int
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &sum); err != nil || len(lines) != 11 {
		t.Fatalf("%v of\n%s", err, a.out)
	}
	if sum.Type != "summary" || sum.Sent != 10 || sum.Answered != 10 || a.err != "" {
		t.Errorf("%+v, and it says %q", sum, a.err)
	}
}
