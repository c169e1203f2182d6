package receive

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/tucdesk/tucdesk/internal/filecopy"
	"github.com/tucdesk/tucdesk/internal/filecopy/send"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wire is the two directions of a channel. Closing it is what a lost session does.
type wire struct {
	sender, receiver *filecopy.Stream
	ends             []io.Closer
}

func newWire(t testing.TB) *wire {
	t.Helper()
	ar, aw := io.Pipe()
	br, bw := io.Pipe()
	w := &wire{sender: filecopy.NewStream(br, aw), receiver: filecopy.NewStream(ar, bw), ends: []io.Closer{ar, aw, br, bw}}
	t.Cleanup(w.cut)
	return w
}

func (w *wire) cut() {
	for _, c := range w.ends {
		_ = c.Close()
	}
}

// outcome is what both ends say of a copy.
type outcome struct {
	sent, received filecopy.Finished
	sendErr, err   error
	problems       []filecopy.Problem
}

// run copies from one folder to another, both ends here.
func run(t testing.TB, from send.Config, to Config) outcome {
	t.Helper()
	w := newWire(t)
	var o outcome
	var mu sync.Mutex
	note := func(p filecopy.Problem) {
		mu.Lock()
		defer mu.Unlock()
		o.problems = append(o.problems, p)
	}
	from.Hangup, to.Problem = w.cut, note
	r, err := Open(to)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		o.received, o.err = r.Run(t.Context(), w.receiver)
		if o.err != nil {
			w.cut()
		}
	})
	o.sent, o.sendErr = send.Run(context.Background(), w.sender, from)
	wg.Wait()
	return o
}

func (o outcome) fine(t testing.TB) {
	t.Helper()
	if o.err != nil || o.sendErr != nil || len(o.problems) > 0 {
		t.Fatalf("receiver: %v, sender: %v, problems: %v", o.err, o.sendErr, o.problems)
	}
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = rng.Read(b)
	return b
}

func write(t testing.TB, name string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func same(t testing.TB, name string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(name)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes, %v; want %d", filepath.Base(name), len(got), err, len(want))
	}
}

func TestFilesOfEverySizeArriveWhole(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	for _, n := range []int{0, 1, filecopy.MaxData, filecopy.MaxData + 1, 1 << 20, 1<<20 + 1, 3<<20 + 17} {
		data := randomBytes(n)
		write(t, filepath.Join(from, "f"), data)
		o := run(t, send.Config{Paths: []string{filepath.Join(from, "f")}}, Config{Path: filepath.Join(to, "g")})
		o.fine(t)
		same(t, filepath.Join(to, "g"), data)
		if o.sent != o.received || o.received.Files != 1 || o.received.Bytes != uint64(n) {
			t.Errorf("%d bytes: %+v and %+v", n, o.sent, o.received)
		}
	}
}
