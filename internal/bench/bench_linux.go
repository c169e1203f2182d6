package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Config says how much is measured.
type Config struct {
	Programs string        // folder of built programs; "" builds those of the module around the working folder
	Repeat   int           // of every measurement that is not made of many parts, at least 1
	Keys     int           // typed in rows about echo
	Execs    int           // commands in a row
	Bulk     int64         // bytes of a transfer over the WAN
	Loopback int64         // bytes of a transfer over loopback
	File     int64         // bytes of the one file in rows about files
	Files    int           // of 4 KiB, in rows about many
	Without  []string      // peers that are left out of rows about files: scp takes 36 minutes for 10,000 at 50 ms
	Idle     time.Duration // how long an idle session is watched
	Sleep    time.Duration // how long everybody sleeps
	Log      io.Writer     // what is being done
}

// Row is one thing to be measured.
type Row struct {
	Name string
	What string
	Must string // the goal that the project has set itself

	measure func(*run) error
}

// Rows returns all rows in the order of the report.
func Rows() []Row {
	return []Row{
		{"echo", "time until a typed key shows, 50 ms round trip, 1 % loss, no prediction", "p99 at most mosh's; aim 65 ms", (*run).echo},
		{"predict", "the same with local prediction where there is one", "", (*run).predict},
		{"prompt", "time until `true` has run on the host, 50 ms round trip, warm login", "less than half of ssh; aim 300 ms", (*run).prompt},
		{"execs", "`true` run on the host again and again, a process of the client each time", "at least as fast as ssh; aim 5 x at 50 ms", (*run).execs},
		{"blocked", "`prompt` where a firewall stops UDP, and everything but TCP 443", "at most 2 round trips more", (*run).blocked},
		{"direct", "two port-restricted NATs: time from first output to the first packet without relay", "1 s; aim 3 round trips", (*run).direct},
		{"bulk", "one stream, direct, 50 ms round trip, 200 Mbit/s, no loss", "at least ssh; aim 170 Mbit/s", (*run).bulk},
		{"bulk-relayed", "the same by the relay alone", "at least ssh; aim 170 Mbit/s", (*run).bulkRelayed},
		{"bulk-loss", "bulk with 0.1 % loss", "", (*run).bulkLoss},
		{"bulk-loopback", "one stream, direct, everything on one machine", "0.9 x ssh", (*run).bulkLoopback},
		{"file", "one file to the host, 50 ms round trip, 200 Mbit/s", "at least scp, sftp and rsync", (*run).oneFile},
		{"file-loopback", "the same, everything on one machine", "at least scp, sftp and rsync", (*run).oneFileLoopback},
		{"files", "many files of 4 KiB to the host, 50 ms round trip, 200 Mbit/s", "at least scp, sftp and rsync; aim twice as fast", (*run).manyFiles},
		{"files-loopback", "the same, everything on one machine", "at least scp, sftp and rsync; aim twice as fast", (*run).manyFilesLoopback},
		{"connections", "9,900 open connections through one forward: memory of the session process", "200 MB", (*run).manyConnections},
		{"idle", "IP traffic of an idle session with a shell, both ways, at the client", "at most 100 bytes/s", (*run).idle},
		{"cut", "network away for 10 s, a key typed meanwhile: time from its return to the echo", "2 s", (*run).cut},
		{"sleep", "client, target and server are stopped, a key is under way: time from going on to the echo", "2 s", (*run).sleep},
		{"roam", "client gets another address: time from the change to the echo of a key", "", (*run).roam},
		{"forged", "1,048,576 forged datagrams to a live session, 50,000 each second, beside one stream: what the stream loses", "10 %; no memory growth (attack A14)", (*run).forged},
		{"relay-killed", "relay in use killed during a transfer, second relay alive: longest silence", "no byte lost, 2 s; aim 500 ms", (*run).relayKilled},
	}
}

// Peers are the copiers that a configuration may leave out.
func Peers() []string { return []string{"scp", "sftp", "rsync", "rsync --fsync"} }

// Check says what is wrong with a configuration and names of rows, before anything is
// begun that takes an hour.
func Check(cfg Config, names []string) error {
	if cfg.Repeat < 1 || cfg.Keys < 1 || cfg.Execs < 1 || cfg.Bulk < 1<<20 || cfg.Loopback < 1<<20 || cfg.File < 1<<20 || cfg.Files < 1 || cfg.Idle < time.Second || cfg.Sleep < time.Second {
		return errors.New("a measurement wants at least one repetition, key, command and file, 1 MiB and one second")
	}
	for _, name := range cfg.Without {
		if !slices.Contains(Peers(), name) {
			return fmt.Errorf("no copier %q to leave out; there are: %s", name, strings.Join(Peers(), ", "))
		}
	}
	_, err := choose(names)
	return err
}

// Run measures the named rows, all of them without names. What one row cannot do
// is in the report; the error is about the run as a whole. Who calls has asked Check.
func Run(ctx context.Context, cfg Config, names []string) (Report, error) {
	rows, err := choose(names)
	if err != nil {
		return Report{}, err
	}
	dir, err := os.MkdirTemp("", "tucdesk-bench-")
	if err != nil {
		return Report{}, err
	}
	defer os.RemoveAll(dir)
	if cfg.Programs == "" {
		fmt.Fprintln(cfg.Log, "building the programs")
		if cfg.Programs, err = build(ctx, dir); err != nil {
			return Report{}, err
		}
	}
	report := Report{Machine: machine()}
	for _, row := range rows {
		fmt.Fprintf(cfg.Log, "%s: %s\n", row.Name, row.What)
		result := measure(ctx, cfg, row, dir)
		if ctx.Err() != nil {
			return report, ctx.Err()
		}
		report.Results = append(report.Results, result)
	}
	return report, nil
}

func choose(names []string) ([]Row, error) {
	if len(names) == 0 {
		return Rows(), nil
	}
	var list []Row
	for _, name := range names {
		at := slices.IndexFunc(Rows(), func(r Row) bool { return r.Name == name })
		if at < 0 {
			return nil, fmt.Errorf("no row %q; \"bench list\" shows them", name)
		}
		list = append(list, Rows()[at])
	}
	return list, nil
}

// run is one row being measured. It is the netlab.T of its lab: what fails there
// ends the row by a panic, which measure catches.
type run struct {
	context.Context
	cfg     Config
	dir     string // of this row
	cleanup []func()
	figures []Figure
	late    time.Duration // of 99 of 100 packets of the worst lab
}

// failure is what Fatalf panics with.
type failure struct{ err error }

// Helper is there for netlab.T.
func (r *run) Helper() {}

// Cleanup has f run at the end of the row.
func (r *run) Cleanup(f func()) { r.cleanup = append(r.cleanup, f) }

// Fatalf ends the row.
func (r *run) Fatalf(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

// Skipf ends the row.
func (r *run) Skipf(format string, args ...any) { r.Fatalf(format, args...) }

func measure(ctx context.Context, cfg Config, row Row, dir string) Result {
	r := &run{Context: ctx, cfg: cfg}
	result := Result{Row: row.Name, What: row.What, Must: row.Must}
	dir, err := os.MkdirTemp(dir, row.Name+"-")
	if err == nil {
		r.dir = dir
		err = r.guarded(row.measure)
	}
	if err != nil {
		result.Failed = err.Error()
	}
	compare(r.figures)
	result.Figures, result.LabLate = r.figures, milliseconds(r.late)
	return result
}

// guarded runs a row and then its cleanup, also when one of them fails or panics.
func (r *run) guarded(f func(*run) error) (err error) {
	defer func() {
		for _, f := range slices.Backward(r.cleanup) {
			err = errors.Join(err, r.caught(func() error { f(); return nil }))
		}
	}()
	return r.caught(func() error { return f(r) })
}

// apart runs f with a lab, a team and a folder of its own.
func (r *run) apart(f func(*run) error) error {
	dir, err := os.MkdirTemp(r.dir, "apart-")
	if err != nil {
		return err
	}
	child := &run{Context: r.Context, cfg: r.cfg, dir: dir}
	err = child.guarded(f)
	r.late = max(r.late, child.late)
	return err
}

func (r *run) caught(f func() error) (err error) {
	defer func() {
		if x, ok := recover().(failure); ok {
			err = x.err
		}
	}()
	return f()
}

// say tells what is being done.
func (r *run) say(format string, args ...any) { fmt.Fprintf(r.cfg.Log, "  "+format+"\n", args...) }

// pause waits, unless the run is ended.
func (r *run) pause(d time.Duration) error {
	select {
	case <-r.Done():
		return r.Err()
	case <-time.After(d):
		return nil
	}
}

// add enters a figure, with a note in its place when it could not be had.
func (r *run) add(subject, metric, unit string, values []float64, err error) {
	f := newFigure(subject, metric, unit, values)
	if err != nil {
		f.Note = firstLine(err.Error())
	}
	r.figures = append(r.figures, f)
	r.say("%s, %s: %s", subject, metric, strings.Join(f.cells(), " "))
}

func firstLine(s string) string {
	line, _, more := strings.Cut(strings.TrimSpace(s), "\n")
	if more {
		line += " ..."
	}
	return line
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// machine describes where the run takes place.
func machine() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	cpu := runtime.GOARCH
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, after, ok := strings.Cut(string(text), "model name\t: "); ok {
			cpu, _, _ = strings.Cut(after, "\n")
		}
	}
	return fmt.Sprintf("%s, %d cores, Linux %s, %s", cpu, runtime.NumCPU(), unix.ByteSliceToString(u.Release[:]), runtime.Version())
}
