package listen

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestP3APortTakenInEitherFamilyIsTaken(t *testing.T) {
	for _, host := range families {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Logf("no %s here: %v", host, err)
			continue
		}
		defer l.Close()
		list, err := Loopback(t.Context(), uint16(l.Addr().(*net.TCPAddr).Port))
		if !errors.Is(err, syscall.EADDRINUSE) || list != nil {
			t.Errorf("listens at %v beside a program that has %s: %v", list, l.Addr(), err)
		}
	}
}

func TestAnyPortIsOnePortOfBothFamilies(t *testing.T) {
	list, err := Loopback(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	port := list[0].Addr().(*net.TCPAddr).Port
	for _, l := range list {
		defer l.Close()
		if at := l.Addr().(*net.TCPAddr); !at.IP.IsLoopback() || at.Port != port || port == 0 {
			t.Errorf("listens at %v, port %d", at, port)
		}
	}
}

func TestSocketsReplaceNothingAndLeaveNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	if err := os.WriteFile(path, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := Socket(t.Context(), path); err == nil {
		_ = l.Close()
		t.Error("listens in place of a file")
	}
	if text, _ := os.ReadFile(path); string(text) != "kept" {
		t.Error("the file is gone")
	}
	_ = os.Remove(path)
	l, err := Socket(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("beside the socket: %v", left)
	}
	_ = l.Close()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left its socket behind: %v", err)
	}
}
