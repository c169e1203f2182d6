package forward

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// events collects what a set reports.
type events struct {
	mu   sync.Mutex
	list []Event
}

func (e *events) add(x Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, x)
}

func (e *events) at(t *testing.T) string {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range e.list {
		if x.Type == Listening {
			return x.At
		}
	}
	t.Fatal("nothing is listened at")
	return ""
}

func begin(t *testing.T, cfg Config, way Way, text string) (*Set, *events) {
	t.Helper()
	spec, err := Parse(way, text)
	if err != nil {
		t.Fatal(err)
	}
	e := &events{}
	cfg.Report = e.add
	s := New(cfg)
	t.Cleanup(s.Close)
	if err := s.Add(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	return s, e
}

func TestP2ListenersAreOnLoopbackUnlessTold(t *testing.T) {
	for _, c := range []struct {
		way        Way
		text       string
		gateway    bool
		everywhere bool
	}{
		{Local, "0:localhost:80", false, false},
		{Local, "localhost:0:localhost:80", true, false},
		{Dynamic, "0", false, false},
		{Dynamic, "localhost:0", true, false},
		{Local, "0:localhost:80", true, true},
		{Dynamic, "*:0", false, true},
		{Local, ":0:localhost:80", false, true},
	} {
		_, e := begin(t, Config{Gateway: c.gateway}, c.way, c.text)
		at := netip.MustParseAddrPort(e.at(t))
		if at.Port() == 0 || at.Addr().IsLoopback() == c.everywhere || at.Addr().IsUnspecified() != c.everywhere {
			t.Errorf("-%c %s, gateway %v: listens at %s", c.way, c.text, c.gateway, at)
		}
	}
}

func TestP3SocketsAreThisUsersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s, e := begin(t, Config{}, Local, path+":localhost:80")
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 || e.at(t) != path {
		t.Fatalf("%v, %v, listens at %q", info, err, e.at(t))
	}
	left, _ := os.ReadDir(filepath.Dir(path))
	if len(left) != 1 {
		t.Errorf("beside the socket: %v", left)
	}
	again := New(Config{Report: e.add})
	defer again.Close()
	spec, _ := Parse(Local, path+":localhost:80")
	if err := again.Add(t.Context(), spec); err == nil {
		t.Error("took a socket away that somebody listens at")
	}
	s.Close()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left its socket behind: %v", err)
	}
}

func TestP3APortTakenInOneFamilyIsTaken(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Logf("no %s here: %v", host, err)
			continue
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		spec, err := Parse(Dynamic, port)
		if err != nil {
			t.Fatal(err)
		}
		s := New(Config{Report: func(Event) {}})
		defer s.Close()
		if err := s.Add(t.Context(), spec); err == nil {
			t.Errorf("listens beside a program that has %s", l.Addr())
		}
	}
}

func TestUnlinkTakesSocketsAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "old")})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	_ = old.Close()
	begin(t, Config{Unlink: true}, Local, filepath.Join(dir, "old")+":localhost:80")
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := New(Config{Unlink: true, Report: func(Event) {}})
	defer s.Close()
	spec, _ := Parse(Local, file+":localhost:80")
	if err := s.Add(t.Context(), spec); err == nil {
		t.Error("listens in place of a file")
	}
	if text, _ := os.ReadFile(file); string(text) != "kept" {
		t.Error("the file is gone")
	}
}

func TestAConnectionWaitsForASessionAndEndsWithTheSet(t *testing.T) {
	s, e := begin(t, Config{}, Local, "0:localhost:80")
	c, err := net.Dial("tcp", e.at(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("did not wait: %v", err)
	}
	s.Close()
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("did not end: %v", err)
	}
}

func TestASOCKSClientThatIsNoneIsLetGo(t *testing.T) {
	_, e := begin(t, Config{}, Dynamic, "0")
	c, err := net.Dial("tcp", e.at(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	if n, err := c.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("answered %d bytes, %v", n, err)
	}
}
