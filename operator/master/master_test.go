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

// patience is how long a test waits for what comes at once on a machine with nothing
// else to do.
const patience = time.Minute

// serve runs a master in a folder of its own until the test's end.
func serve(t *testing.T, do Handler) (dir string) {
	t.Helper()
	dir = t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	ready, over := make(chan struct{}), make(chan error, 1)
	go func() { over <- Serve(ctx, dir, time.Hour, func() { close(ready) }, do) }()
	select {
	case <-ready:
	case err := <-over:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		select {
		case <-over:
		case <-time.After(patience):
			t.Error("the master does not stop")
		}
	})
	return dir
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
	dir := serve(t, closing(func(job json.RawMessage, in, out, errs *os.File) (int, bool) {
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
	refusing := serve(t, closing(func(json.RawMessage, *os.File, *os.File, *os.File) (int, bool) { return 0, true }))
	if _, err := Run(t.Context(), refusing, "job", strings.NewReader(""), w, w); !IsNone(err) {
		t.Errorf("it said no: %v", err)
	}
	if _, err := Run(t.Context(), refusing, strings.Repeat("x", maxJob), strings.NewReader(""), w, w); !IsNone(err) {
		t.Errorf("a job that is too long: %v", err)
	}
}

func TestAClientThatGoesEndsItsJob(t *testing.T) {
	began, gone := make(chan struct{}), make(chan struct{})
	dir := serve(t, func(ctx context.Context, _ json.RawMessage, in, out, errs *os.File) (int, bool) {
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
	case <-time.After(patience):
		t.Error("the job goes on for nobody")
	}
	_ = in.Close() // the copy that was left behind ends
}

func TestAJobThatReadsNothingLeavesNoReadBehind(t *testing.T) {
	dir := serve(t, func(_ context.Context, _ json.RawMessage, in, out, errs *os.File) (int, bool) {
		read := make(chan struct{})
		go func() { _, _ = in.Read(make([]byte, 1)); close(read) }()
		_, _, _ = in.Close(), out.Close(), errs.Close()
		select {
		case <-read:
			return 0, false
		case <-time.After(patience):
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
	dir, began := t.TempDir(), false
	look := func() { // before it counts how long nobody came: this may take longer
		began = true
		info, err := os.Lstat(filepath.Join(dir, "master.sock"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("P3: the socket is %v, %v", info, err)
		}
		if err := Serve(t.Context(), dir, time.Hour, func() { t.Error("two serve") }, nil); refusal.Of(err) != refusal.TooMany {
			t.Errorf("a second one: %v", err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := Serve(ctx, dir, 50*time.Millisecond, look, nil); err != nil || !began || ctx.Err() != nil {
		t.Errorf("it does not end by itself: %v, %v", err, ctx.Err())
	}
	if _, err := os.Lstat(filepath.Join(dir, "master.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it left its socket: %v", err)
	}
}

func TestGarbageIsNoJob(t *testing.T) {
	dir := serve(t, closing(func(json.RawMessage, *os.File, *os.File, *os.File) (int, bool) {
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
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if n, err := conn.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q: %d bytes, %v", said, n, err)
		}
		_ = conn.Close()
	}
}
