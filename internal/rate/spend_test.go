package rate

import (
	"testing"
	"time"
)

func TestWhatIsSpentBeyondTheBucketIsOwed(t *testing.T) {
	l := New[string](Rate{PerSecond: 10, Burst: 100})
	now := time.Unix(1_700_000_000, 0)
	for _, step := range []struct {
		after time.Duration
		n     float64
		want  bool
	}{{0, 60, true}, {0, 90, true}, {0, 1, false}, {5 * time.Second, 1, false}, {time.Second / 5, 1, true}, {0, 1, true}, {0, 1, false}, {time.Minute, 100, true}, {0, 1, false}} {
		now = now.Add(step.after)
		if got := l.Spend("a", step.n, now); got != step.want {
			t.Fatalf("%v: %v", step, got)
		}
	}
	if !l.Spend("b", 1000, now) {
		t.Error("one key's debt is another's")
	}
}
