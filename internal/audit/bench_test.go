package audit

import (
	"bytes"
	"runtime"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/wire"
)

// large exports a log of n entries with a checkpoint after each thousand.
func large(b testing.TB, n int) (*world, []byte) {
	w := newWorld(b)
	command := &Command{Action: wire.Exec, Argv: []wire.Bytes{wire.Bytes("systemctl"), wire.Bytes("restart"), wire.Bytes("nginx")}}
	for i := len(w.rows.entries); i < n; i++ {
		w.record(Entry{Type: SessionDeny, Actor: Actor{Kid: w.ann.ID(), Email: "ann@example.org", Person: "ann"}, Command: command})
		if i%1000 == 0 {
			w.checkpoint()
		}
	}
	w.checkpoint()
	var out bytes.Buffer
	check(b, w.log.Export(&out, w.rows))
	return w, out.Bytes()
}

func BenchmarkVerify100000(b *testing.B) {
	w, export := large(b, 100_000)
	b.SetBytes(int64(len(export)))
	b.ResetTimer()
	for b.Loop() {
		r, err := Verify(bytes.NewReader(export), w.state.Fingerprint(), w.now)
		check(b, err)
		if !r.OK() || r.Size != 100_000 {
			b.Fatalf("report %+v", r)
		}
	}
}

func BenchmarkRecordInMemory(b *testing.B) {
	w := newWorld(b)
	e := Entry{Type: SessionDeny, Time: 1, Command: &Command{Argv: []wire.Bytes{wire.Bytes("uptime")}}}
	for b.Loop() {
		if _, err := w.log.Record(w.rows, e); err != nil {
			b.Fatal(err)
		}
	}
}

// N6: memory of a verification does not grow with the text of the log. The same
// entry over and over is a log full of findings, which are bounded, too.
func TestN6VerifyIsBounded(t *testing.T) {
	w := newWorld(t)
	w.record(Entry{Type: Login})
	lines := w.export()
	at := entryLines(lines)
	head, again := joined(lines[:at[0]]), lines[at[len(at)-1]]
	const n = 20_000
	r, err := Verify(&repeated{head: strings.NewReader(head), line: again, left: n, t: t}, w.state.Fingerprint(), w.now)
	check(t, err)
	if r.Size != n || len(r.Findings) != MaxFindings || r.More == 0 {
		t.Errorf("size %d, %d findings and %d more", r.Size, len(r.Findings), r.More)
	}
}

// repeated is a head and then one line many times; it watches the heap.
type repeated struct {
	head *strings.Reader
	line string
	left int
	rest string
	t    *testing.T
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.head.Len() > 0 {
		return r.head.Read(p)
	}
	if r.rest == "" {
		if r.left == 0 {
			return r.head.Read(p)
		}
		r.left--
		r.rest = r.line
		if r.left%10_000 == 0 {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			if m.HeapAlloc > 64<<20 {
				r.t.Errorf("heap of %d MiB", m.HeapAlloc>>20)
			}
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func FuzzVerify(f *testing.F) {
	w := busy(f)
	lines := w.export()
	fingerprint := w.state.Fingerprint()
	at := entryLines(lines)[0]
	head := joined(lines[:at])
	f.Add(joined(lines[at:]))
	f.Add("{\"end\":0}\n")
	f.Add("{\"index\":0,\"entry\":null}\n{\"checkpoint\":\"x\"}")
	f.Fuzz(func(t *testing.T, body string) {
		r, err := Verify(strings.NewReader(head+body), fingerprint, w.now)
		if err != nil {
			return
		}
		if r.OK() && r.Size != 0 && !strings.HasPrefix(joined(lines[at:]), strings.TrimRight(body, " \n")) {
			// White space and the order of an object's parts may differ; the entries not.
			if r.Size != int64(len(w.rows.entries)) {
				t.Errorf("another log verifies: %q", body)
			}
		}
	})
}
