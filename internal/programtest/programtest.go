// Package programtest builds the real programs for the tests of one binary, and
// keeps what they print. Only tests import it.
package programtest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/tucdesk/tucdesk/internal/sidebyside"

	// The go command repeats a passed test from its cache unless something that
	// the test was linked with or has read is new. These are what the programs
	// are made of; their own files build looks at.
	_ "github.com/tucdesk/tucdesk/agent"
	_ "github.com/tucdesk/tucdesk/operator"
	_ "github.com/tucdesk/tucdesk/relay"
	_ "github.com/tucdesk/tucdesk/rendezvous"
)

// root is the module as seen from the folder of a package in internal, where its
// tests run.
const root = "../.."

// maxPrinted is how many bytes of one stream of a process are kept; our choice.
const maxPrinted = 64 << 20

// Set is the programs of one test binary. The zero value is ready for Main.
type Set struct {
	dir  string // from Main on
	once sync.Once
	why  error // why they could not be built
}

// Main is what a TestMain exits with: it runs the tests, so many of those that say
// t.Parallel side by side, and removes the programs at the end. What waits for other
// processes, timers and packets needs no core of its own.
func (s *Set) Main(m *testing.M, parallel int) (code int) {
	dir, err := os.MkdirTemp("", "tucdesk-programs-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	s.dir = dir
	sidebyside.Tests(parallel)
	return m.Run()
}

// Dir is the folder of the programs, and of whatever else lives as long as they do.
func (s *Set) Dir() string { return s.dir }

// Path returns where a program is; the first call builds all of them. A test with
// -race does not give them the race detector, because every command of a client
// would take a second; GOFLAGS=-race gives it to both, for those who have the time.
func (s *Set) Path(t testing.TB, name string) string {
	t.Helper()
	s.once.Do(func() { s.why = s.build() })
	if s.why != nil {
		t.Fatal(s.why)
	}
	return filepath.Join(s.dir, name)
}

// build makes the programs as a release does, and as internal/bench does, so that
// the go command has to make them once. It leaves out what debuggers read: half of
// the linker's time. The programs are those that "go run" would run, because the go
// command keeps what that has linked; it links again for each "go build", and each of
// the test binaries needs them.
func (s *Set) build() error {
	env := os.Environ()
	if !strings.Contains(os.Getenv("GOFLAGS"), "-race") { // which wants cgo
		env = append(env, "CGO_ENABLED=0")
		if runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64" {
			env = append(env, "GOEXPERIMENT=runtimesecret")
		}
	}
	for _, name := range []string{"tucdesk", "tucdesk-agent", "tucdesk-relay", "tucdesk-server"} {
		files, err := filepath.Glob(filepath.Join(root, "cmd", name, "*.go"))
		if err != nil || len(files) == 0 {
			return fmt.Errorf("building the programs: no program %q: %v", name, err)
		}
		for _, f := range files {
			if _, err := os.Stat(f); err != nil { // seen by the test cache
				return err
			}
		}
		cmd := exec.Command("go", "run", "-trimpath", "-ldflags=-s -w", "-exec", "cp", "./cmd/"+name, filepath.Join(s.dir, name))
		cmd.Dir, cmd.Env = root, env
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building the programs: %v\n%s", err, out)
		}
	}
	return nil
}

// Transcript keeps what a process prints, at most 64 MiB of it. The zero value is
// empty; all methods may be called from any goroutine.
type Transcript struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

// Write never fails: a process must not end because it is talkative.
func (t *Transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b.Write(p[:max(0, min(len(p), maxPrinted-t.b.Len()))])
	return len(p), nil
}

// String returns what was printed so far.
func (t *Transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// Count says how often text was printed so far.
func (t *Transcript) Count(text string) int { return strings.Count(t.String(), text) }
