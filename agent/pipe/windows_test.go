//go:build windows

package pipe

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/windows"
)

// end makes an *os.File of the other end, as the process has it that inherits it.
func end(t *testing.T, h windows.Handle) *os.File {
	t.Helper()
	f := os.NewFile(uintptr(h), "theirs")
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestOurEndObeysDeadlinesAndClose(t *testing.T) {
	ours, theirs, err := New(In)
	if err != nil {
		t.Fatal(err)
	}
	other := end(t, theirs)
	if err := ours.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := ours.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	if err := ours.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := other.WriteString("hello"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 8)
	if n, err := ours.Read(b); err != nil || string(b[:n]) != "hello" {
		t.Errorf("%q, %v", b[:n], err)
	}
	woken := make(chan error)
	go func() {
		_, err := ours.Read(b)
		woken <- err
	}()
	_ = ours.Close()
	if err := <-woken; !errors.Is(err, os.ErrClosed) {
		t.Errorf("a reader of a closed end: %v", err)
	}
}

func TestBothEndsHearOfTheOthersEnd(t *testing.T) {
	ours, theirs, err := New(Out)
	if err != nil {
		t.Fatal(err)
	}
	other := end(t, theirs)
	if _, err := ours.WriteString("last words"); err != nil {
		t.Fatal(err)
	}
	_ = ours.Close()
	if text, err := io.ReadAll(other); err != nil || string(text) != "last words" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestNobodyElseGetsIn(t *testing.T) {
	ours, theirs, err := New(In)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	end(t, theirs)
	for _, flag := range []int{os.O_WRONLY, os.O_RDONLY} {
		if f, err := os.OpenFile(ours.Name(), flag, 0); err == nil {
			_ = f.Close()
			t.Error("a second process could connect")
		}
	}
}
