package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/netlab"
	"github.com/tucdesk/tucdesk/internal/sidebyside"
)

func visible(text string) string {
	var e escapes
	var out []byte
	for _, c := range []byte(text) {
		if e.visible(c) {
			out = append(out, c)
		}
	}
	return string(out)
}

func TestOnlyCharactersCount(t *testing.T) {
	for text, want := range map[string]string{
		"abc":                              "abc",
		"\x1b[?25la\x1b[1;31mb\x1b[0m":     "ab",
		"\x1b]0;title\x07x\x1b]0;t\x1b\\y": "xy",
		"\x1b(Bq\r\n \x1b7z":               "qz",
		"\x1b[\x1b[mk":                     "k",
	} {
		if got := visible(text); got != want {
			t.Errorf("%q shows %q, want %q", text, got, want)
		}
	}
}

func TestNoKeyShowsTwiceInOneColumn(t *testing.T) {
	if lineKeys%len(alphabet) == 0 {
		t.Error("a client that shows only what changes would not show a key")
	}
}

func TestTransferOfTheWrongSizeIsAnError(t *testing.T) {
	if _, err := transfer(exec.Command("head", "-c", "1000", "/dev/zero"), 1000, nil); err != nil {
		t.Error(err)
	}
	if _, err := transfer(exec.Command("head", "-c", "999", "/dev/zero"), 1000, nil); err == nil {
		t.Error("999 bytes of 1000 were enough")
	}
	if _, err := transfer(exec.Command("sh", "-c", "head -c 1000 /dev/zero; echo why >&2; exit 3"), 1000, nil); err == nil || !strings.Contains(err.Error(), "why") {
		t.Errorf("a failed command: %v", err)
	}
}

func TestSilenceCountsFromTheWatchersWord(t *testing.T) {
	cmd := exec.Command("sh", "-c", "echo one; sleep 1; echo two; sleep 0.1; echo three")
	var said time.Time
	m, err := transfer(cmd, 14, func(have int64) bool {
		if have == 8 {
			said = time.Now()
		}
		return have == 8
	})
	if since := time.Since(said); err != nil || m.silence < 100*time.Millisecond || m.silence > since+500*time.Millisecond {
		t.Errorf("silence of %v in the %v since the word: %v", m.silence, since, err)
	}
}

func TestUnknownRow(t *testing.T) {
	if _, err := Run(t.Context(), Config{}, []string{"nothing"}); err == nil || !strings.Contains(err.Error(), `"nothing"`) {
		t.Errorf("%v", err)
	}
}

func TestAWrongConfigurationIsSaidBeforeAnythingBegins(t *testing.T) {
	good := Config{Repeat: 1, Keys: 1, Execs: 1, Bulk: 1 << 20, Loopback: 1 << 20, File: 1 << 20, Files: 1, Idle: time.Second, Sleep: time.Second}
	if err := Check(good, []string{"files"}); err != nil {
		t.Error(err)
	}
	without, none, row := good, good, "file"
	without.Without, none.Files = []string{"scp", "spc"}, 0
	for want, err := range map[string]error{
		`"spc"`:   Check(without, nil),
		"one":     Check(none, nil),
		`"fiels"`: Check(good, []string{row, "fiels"}),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %s named: %v", want, err)
		}
	}
}

func TestAFailedRowIsCleanedUpAndSaid(t *testing.T) {
	var cleaned []int
	row := Row{Name: "row", measure: func(r *run) error {
		r.Cleanup(func() { cleaned = append(cleaned, 1) })
		r.Cleanup(func() { cleaned = append(cleaned, 2); r.Fatalf("cleaning failed") })
		r.Fatalf("because of %d", 7)
		return nil
	}}
	result := measure(t.Context(), Config{}, row, t.TempDir())
	if result.Failed != "because of 7\ncleaning failed" || len(cleaned) != 2 || cleaned[0] != 2 {
		t.Errorf("%q, cleaned %v", result.Failed, cleaned)
	}
}

func TestOnlyDirectSealedDatagramsShowAnIndex(t *testing.T) {
	ip := make([]byte, 20+8+32)
	ip[0], ip[9] = 0x45, 17
	copy(ip[16:], []byte{192, 0, 2, 7})
	ip[22], ip[23] = 0x12, 0x34
	for first, want := range map[byte]bool{0xd8: true, 0xd3: false, 0x40: false, 0: false} {
		copy(ip[28:], []byte{first, 0, 0, 0, 1, 2, 3, 4})
		to, index, ok := sealed(ip)
		if ok != want || ok && (to.String() != "192.0.2.7:4660" || index != 0x01020304) {
			t.Errorf("first byte %#x: %v, %#x, %v", first, to, index, ok)
		}
	}
	for n := range ip {
		if _, _, ok := sealed(ip[:n]); ok {
			t.Errorf("%d bytes are a sealed datagram", n)
		}
	}
}

// binaries is where TestMain has the programs built; empty before.
var binaries string

var buildPrograms = sync.OnceValue(func() error {
	_, err := build(context.Background(), binaries)
	return err
})

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "tucdesk-bench-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binaries = dir
	sidebyside.Tests(4)
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// small is a run of a few seconds.
func small(t *testing.T) Config {
	t.Helper()
	if missing := netlab.Missing(); missing != "" {
		netlab.New(t) // skips, or fails in CI
	}
	if err := buildPrograms(); err != nil {
		t.Fatal(err)
	}
	return Config{Programs: binaries, Repeat: 1, Keys: 5, Execs: 3, Bulk: 4 << 20, Loopback: 4 << 20, File: 4 << 20, Files: 50, Idle: time.Second, Sleep: time.Second, Log: t.Output()}
}

// TestRowsMeasureEverySubject runs the row about time by itself and the others, whose
// figures it does not judge, side by side.
func TestRowsMeasureEverySubject(t *testing.T) {
	keepFolder(t, "/run/sshd")
	t.Run("echo", func(t *testing.T) {
		for _, f := range measured(t, "echo").Figures {
			if f.Metric == "p50" && f.Samples > 0 && (f.Median < 50 || f.Median > 5000) { // of another unit it would be a thousandth, or thousands
				t.Errorf("%s shows a key after %v ms on a link of 50 ms", f.Subject, f.Median)
			}
		}
	})
	for _, row := range []string{"prompt", "bulk", "file", "files-loopback"} {
		t.Run(row, func(t *testing.T) {
			t.Parallel()
			measured(t, row)
		})
	}
}

// measured runs one row, and wants a figure for every subject whose program is here.
func measured(t *testing.T, row string) Result {
	t.Helper()
	report, err := Run(t.Context(), small(t), []string{row})
	if err != nil {
		t.Fatal(err)
	}
	result := report.Results[0]
	if result.Failed != "" || len(result.Figures) < 2 {
		t.Errorf("%s: %d figures, %s", result.Row, len(result.Figures), result.Failed)
	}
	for _, f := range result.Figures {
		if ours := strings.HasPrefix(f.Subject, "tucdesk"); f.Samples == 0 && (ours || !strings.Contains(f.Note, "apt-get install")) {
			t.Errorf("%s: no figure for %s: %s", result.Row, f.Subject, f.Note)
		}
	}
	return result
}

// keepFolder makes a folder that rows side by side use, with a file in it, so that
// nobody takes it away who found it missing: no row, and no other test binary.
func keepFolder(t *testing.T, dir string) {
	t.Helper()
	var f *os.File
	made, err := false, os.ErrNotExist
	for range 100 { // somebody may take it away in between
		made = os.Mkdir(dir, 0o755) == nil
		if f, err = os.CreateTemp(dir, "kept"); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	t.Cleanup(func() {
		_ = os.Remove(f.Name())
		if made {
			_ = os.Remove(dir) // fails where somebody else keeps it
		}
	})
}

func TestAnEndedRunLeavesNothing(t *testing.T) {
	cfg := small(t)
	cfg.Keys = 1000
	ctx, cancel := context.WithCancel(t.Context())
	cfg.Log = word{"keys each", cancel}
	if _, err := Run(ctx, cfg, []string{"echo"}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	// Who was killed may take a moment to end.
	deadline, tick := time.Now().Add(time.Minute), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	left := running(t, cfg.Programs)
	for ; len(left) > 0 && time.Now().Before(deadline); left = running(t, cfg.Programs) {
		<-tick.C
	}
	if len(left) > 0 {
		t.Errorf("still runs: %q", left)
	}
}

// running is what processes were started as that have text among their arguments.
func running(t *testing.T, text string) (lines []string) {
	t.Helper()
	list, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(list) == 0 {
		t.Fatal("no list of processes", err)
	}
	for _, path := range list {
		if line, _ := os.ReadFile(path); strings.Contains(string(line), text) {
			lines = append(lines, string(line))
		}
	}
	return lines
}

// word calls f when it is written.
type word struct {
	text string
	f    func()
}

// Write is the edge of the process where the run tells what it does.
func (w word) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.text) {
		w.f()
	}
	return len(p), nil
}
