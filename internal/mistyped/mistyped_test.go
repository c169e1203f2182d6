package mistyped

import (
	"slices"
	"testing"
)

func TestOneLetterAway(t *testing.T) {
	for _, c := range []struct {
		typed, known string
		want         bool
	}{
		{"wbe", "web", true}, {"we", "web", true}, {"webb", "web", true}, {"wab", "web", true}, {"eb", "web", true}, {"web-10", "web-1", true},
		{"web", "web", false}, {"w", "web", false}, {"db", "web", false}, {"", "a", false}, {"ab", "cd", false}, {"webserver", "web", false}, {"abcd", "badc", false},
	} {
		if got := near(c.typed, c.known); got != c.want || near(c.known, c.typed) != got {
			t.Errorf("%q for %q: %v", c.typed, c.known, got)
		}
	}
}

func TestFewNamesAndEachOnce(t *testing.T) {
	if got := Meant("web", []string{"db", "web1", "web1", "web", "web2", "web3", "web4"}); !slices.Equal(got, []string{"web1", "web2", "web3"}) {
		t.Error(got)
	}
	if got := Meant("web", []string{"database"}); got != nil {
		t.Error(got)
	}
}
