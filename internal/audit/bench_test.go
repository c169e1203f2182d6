package audit_test

import (
	"bytes"
	"runtime"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/verify"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// large exports a log of n entries with a checkpoint after each thousand.
func large(b testing.TB, n int) (*world, []byte) {
	w := newWorld(b)
	command := &entry.Command{Action: wire.Exec, Argv: []wire.Bytes{wire.Bytes("systemctl"), wire.Bytes("restart"), wire.Bytes("nginx")}}
	for i := len(w.rows.entries); i < n; i++ {
		w.record(entry.Entry{Type: entry.SessionDeny, Actor: entry.Actor{Kid: w.ann.ID(), Email: "ann@example.org", Person: "ann"}, Command: command})
		if i%1000 == 0 {
			w.checkpoint()
		}
	}
	w.checkpoint()
	var out bytes.Buffer
	check(b, w.write(&out, w.rows))
	return w, out.Bytes()
}

func BenchmarkVerify100000(b *testing.B) {
	w, export := large(b, 100_000)
	b.SetBytes(int64(len(export)))
	b.ResetTimer()
	for b.Loop() {
		r, err := verify.Export(bytes.NewReader(export), w.state.Fingerprint(), w.now)
		check(b, err)
		if r.Verdict() != verify.HoldsTo || r.Size != 100_000 {
			b.Fatalf("report %+v", r)
		}
	}
}

func BenchmarkRecordInMemory(b *testing.B) {
	w := newWorld(b)
	e := entry.Entry{Type: entry.SessionDeny, Time: 1, Command: &entry.Command{Argv: []wire.Bytes{wire.Bytes("uptime")}}}
	for b.Loop() {
		if _, err := w.log.Record(w.rows, e); err != nil {
			b.Fatal(err)
		}
	}
}

// N6: memory of a verification does not grow with the text of the log. The same
// entry over and over is a log full of findings, which are bounded, too. Large
// entries make the text long with few signatures to verify.
func TestN6VerifyIsBounded(t *testing.T) {
	w := newWorld(t)
	w.record(entry.Entry{Type: entry.SessionDeny, Command: &entry.Command{Argv: []wire.Bytes{bytes.Repeat([]byte("\x01"), 700)}}})
	lines := w.export()
	at := entryLines(lines)
	r := &repeated{head: strings.NewReader(joined(lines[:at[0]])), line: lines[at[len(at)-1]], left: 1100}
	report, err := verify.Export(r, w.state.Fingerprint(), w.now)
	check(t, err)
	if report.Size != 1100 || len(report.Findings) != verify.MaxFindings || report.More == 0 {
		t.Errorf("size %d, %d findings and %d more", report.Size, len(report.Findings), report.More)
	}
	if r.read < 2<<20 || r.last > r.first+r.read/4 {
		t.Errorf("%d bytes of text took the heap from %d to %d", r.read, r.first, r.last)
	}
}

// repeated is a head and then one line many times; it watches the heap after each
// four batches.
type repeated struct {
	head *strings.Reader
	line string
	left int
	rest string

	read, first, last uint64 // bytes: since the first look at the heap, and of the heap
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
		if r.left%256 == 0 {
			r.look()
		}
	}
	n := copy(p, r.rest)
	r.rest, r.read = r.rest[n:], r.read+uint64(n)
	return n, nil
}

func (r *repeated) look() {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	if r.first == 0 {
		r.first, r.read = m.HeapAlloc, 0
	}
	r.last = m.HeapAlloc
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
		r, err := verify.Export(strings.NewReader(head+body), fingerprint, w.now)
		if err != nil {
			return
		}
		if r.Verdict() == verify.HoldsTo && r.Size != 0 && !strings.HasPrefix(joined(lines[at:]), strings.TrimRight(body, " \n")) {
			// White space and the order of an object's parts may differ; the entries not.
			if r.Size != int64(len(w.rows.entries)) {
				t.Errorf("another log verifies: %q", body)
			}
		}
		explained := 0
		for _, c := range r.Causes() {
			if explained += len(c.Findings); c.Last < c.Entry {
				t.Errorf("cause %+v", c)
			}
		}
		if explained != len(r.Findings) {
			t.Errorf("causes of %d findings of %d", explained, len(r.Findings))
		}
	})
}
