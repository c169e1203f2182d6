package listen

import (
	"errors"
	"os"
	"syscall"
	"testing"
)

// starve takes all descriptors that this process may have, until the test's end, and
// returns the last one.
func starve(t *testing.T) (last *os.File) {
	t.Helper()
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was) })
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 64, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	for {
		f, err := os.Open(os.DevNull)
		if errors.Is(err, syscall.EMFILE) {
			return last
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		last = f
	}
}

// A port of one family alone is no listener of ours where the system has the other: the
// next program that asks gets it there.
func TestP3AFamilyThatCannotBeHadIsNotLeftOut(t *testing.T) {
	both, err := Loopback(t.Context(), 0) // and what listening needs once is there from now on
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range both {
		_ = l.Close()
	}
	if len(both) < len(families) {
		t.Skip("this system has no loopback in one of the families")
	}
	last := starve(t)
	_ = last.Close()
	list, err := Loopback(t.Context(), 0)
	if !errors.Is(err, syscall.EMFILE) || list != nil {
		t.Errorf("listens at %v: %v", list, err)
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatalf("a listener was left open: %v", err)
	}
	_ = f.Close()
}
