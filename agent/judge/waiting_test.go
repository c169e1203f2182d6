package judge

import (
	"testing"
	"time"
)

func TestWaitingListIsBoundedAndSpentOnce(t *testing.T) {
	var w waitingList
	now := time.Now()
	w.add([32]byte{1}, now.Add(time.Minute), now)
	if !w.take([32]byte{1}, now) || w.take([32]byte{1}, now) {
		t.Error("a waiting request is good for one more try")
	}
	w.add([32]byte{2}, now.Add(time.Minute), now)
	if w.take([32]byte{2}, now.Add(2*time.Minute)) {
		t.Error("an expired request was still waiting")
	}
	for i := range 2 * maxKnown {
		w.add([32]byte{3, byte(i), byte(i >> 8)}, now.Add(time.Minute), now)
	}
	if len(w.m) > maxKnown {
		t.Errorf("%d requests wait", len(w.m))
	}
}
