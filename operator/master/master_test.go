//go:build unix

package master

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a master in a folder of its own until the test's end.
func serve(t *testing.T, idle time.Duration, do Handler) (dir string, ended <-chan error) {
	t.Helper()
	dir = t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	ready, over := make(chan struct{}), make(chan error, 1)
	go func() { over <- Serve(ctx, dir, idle, func() { close(ready) }, do) }()
	select {
	case <-ready:
	case err := <-over:
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	t.Cleanup(func() {
		cancel()
		select {
		case <-stopped:
		case <-time.After(10 * time.Second):
			t.Error("the master does not stop")
		}
	})
	done := make(chan error, 1)
	go func() { err := <-over; done <- err; stopped <- err }()
	return dir, done
}

// pair is a pipe whose ends are closed with the test.
func pair(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r, w
}

func closing(f func(job json.RawMessage, in, out, errs *os.File) (int, bool)) Handler {
	return func(_ context.Context, job json.RawMessage, in, out, errs *os.File) (int, bool) {
		defer func() { _, _, _ = in.Close(), out.Close(), errs.Close() }()
		return f(job, in, out, errs)
	}
}

func TestAJobHasItsStreamsAndItsStatus(t *testing.T) {
	dir, _ := serve(t, time.Minute, closing(func(job json.RawMessage, in, out, errs *os.File) (int, bool) {
		text, _ := io.ReadAll(in)
		_, _ = out.Write(append(text, job...))
		_, _ = io.WriteString(errs, "err")
		return 7, false
	}))
	outR, outW := pair(t)
	errR, errW := pair(t)
	long := strings.Repeat("x", 100_000) // more than one datagram of a socket
	status, err := Run(t.Context(), dir, long[:60_000], strings.NewReader(long[:1000]), outW, errW)
	if err != nil || status != 7 {
		t.Fatalf("%d, %v", status, err)
	}
	_, _ = outW.Close(), errW.Close()
	out, _ := io.ReadAll(outR)
	errs, _ := io.ReadAll(errR)
	if string(out) != long[:1000]+`"`+long[:60_000]+`"` || string(errs) != "err" {
		t.Errorf("%d bytes, %q", len(out), errs)
	}
}

func TestNobodyServesMeansDoItYourself(t *testing.T) {
	_, w := pair(t)
	if _, err := Run(t.Context(), t.TempDir(), "job", strings.NewReader(""), w, w); !IsNone(err) {
		t.Errorf("no socket: %v", err)
	}
	dir := t.TempDir() // a socket that a killed master has left
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "master.sock")})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	if _, err := Run(t.Context(), dir, "job", strings.NewReader(""), w, w); !IsNone(err) {
		t.Errorf("a dead socket: %v", err)
	}
	refusing, _ := serve(t, time.Minute, closing(func(json.RawMessage, *os.File, *os.File, *os.File) (int, bool) { return 0, true }))
	if _, err := Run(t.Context(), refusing, "job", strings.NewReader(""), w, w); !IsNone(err) {
		t.Errorf("it said no: %v", err)
	}
	if _, err := Run(t.Context(), refusing, strings.Repeat("x", maxJob), strings.NewReader(""), w, w); !IsNone(err) {
		t.Errorf("a job that is too long: %v", err)
	}
}

func TestAClientThatGoesEndsItsJob(t *testing.T) {
	began, gone := make(chan struct{}), make(chan struct{})
	dir, _ := serve(t, time.Minute, func(ctx context.Context, _ json.RawMessage, in, out, errs *os.File) (int, bool) {
		close(began)
		<-ctx.Done()
		_, _, _ = in.Close(), out.Close(), errs.Close()
		close(gone)
		return 130, false
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	_, w := pair(t)
	in, _ := pair(t) // says nothing: a terminal where nobody types
	if _, err := Run(ctx, dir, "job", in, w, w); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Error("the job goes on for nobody")
	}
	_ = in.Close() // the copy that was left behind ends
}

func TestAJobThatReadsNothingLeavesNoReadBehind(t *testing.T) {
	dir, _ := serve(t, time.Minute, func(_ context.Context, _ json.RawMessage, in, out, errs *os.File) (int, bool) {
		read := make(chan struct{})
		go func() { _, _ = in.Read(make([]byte, 1)); close(read) }()
		_, _, _ = in.Close(), out.Close(), errs.Close()
		select {
		case <-read:
			return 0, false
		case <-time.After(10 * time.Second):
			return 1, false
		}
	})
	_, w := pair(t)
	in, _ := pair(t)
	if status, err := Run(t.Context(), dir, "job", in, w, w); err != nil || status != 0 {
		t.Errorf("a read of the input went on: %d, %v", status, err)
	}
	_ = in.Close()
}

func TestOneMasterWhichEndsWhenIdle(t *testing.T) {
	dir, ended := serve(t, 200*time.Millisecond, closing(func(json.RawMessage, *os.File, *os.File, *os.File) (int, bool) { return 0, false }))
	info, err := os.Lstat(filepath.Join(dir, "master.sock"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("P3: the socket is %v, %v", info, err)
	}
	if err := Serve(t.Context(), dir, time.Minute, func() { t.Error("two serve") }, nil); refusal.Of(err) != refusal.TooMany {
		t.Errorf("a second one: %v", err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end")
	}
	if _, err := os.Lstat(filepath.Join(dir, "master.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it left its socket: %v", err)
	}
}

func TestGarbageIsNoJob(t *testing.T) {
	dir, _ := serve(t, time.Minute, closing(func(json.RawMessage, *os.File, *os.File, *os.File) (int, bool) {
		t.Error("garbage was done")
		return 0, false
	}))
	for _, said := range []string{"", "abc", "\x00\x00\x00\x02{}", "\xff\xff\xff\xff", "\x00\x00\x00\x02xx"} {
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: filepath.Join(dir, "master.sock")})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte(said))
		_ = conn.CloseWrite()
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := conn.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q: %d bytes, %v", said, n, err)
		}
		_ = conn.Close()
	}
}
