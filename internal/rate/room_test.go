package rate

import "testing"

func TestRoomIsBoundedByKeyAndInAll(t *testing.T) {
	r := NewRoom[string](100, 60)
	enter := func(k string, n int64, want bool) func() {
		t.Helper()
		leave, ok := r.Enter(k, n)
		if ok != want {
			t.Fatalf("%d for %s: %v", n, k, ok)
		}
		return leave
	}
	a := enter("a", 60, true)
	enter("a", 1, false)
	enter("b", 41, false)
	b := enter("b", 40, true)
	enter("c", 1, false)
	enter("c", -1, false)
	a()
	enter("b", 21, false)
	c := enter("b", 20, true)
	b()
	c()
	if r.Taken() != 0 || len(r.by) != 0 {
		t.Errorf("%d bytes of %v are remembered", r.Taken(), r.by)
	}
}
