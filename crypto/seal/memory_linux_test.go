package seal

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/tucdesk/tucdesk/internal/harden"
)

// TestA19NoKeysInMemoryAfterClose builds testdata/scan as release builds are
// built, with GOEXPERIMENT=runtimesecret, and asks it how often the keys of a
// session are in its memory while the session is open and after. Builds without
// the experiment make no such promise; for them TestClosedSessionDoesNothing
// checks that the buffers we own are dropped.
func TestA19NoKeysInMemoryAfterClose(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("erasure of secrets exists on amd64 and arm64 only")
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		missing(t, "the go command is not in PATH: install Go to build the memory scan")
	}
	t.Logf("this build of the tests erases secrets: %t", harden.Erases)
	program := filepath.Join(t.TempDir(), "scan")
	// "go run" keeps what it has linked, "go build" links every time.
	build := exec.Command(goTool, "run", "-exec", "cp", "./testdata/scan", program)
	build.Env = append(os.Environ(), "GOEXPERIMENT=runtimesecret")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the memory scan: %v\n%s", err, out)
	}
	for range 3 {
		out, err := exec.Command(program).CombinedOutput()
		if err != nil {
			t.Fatalf("scanning: %v\n%s", err, out)
		}
		var erases bool
		var open, closed int
		if _, err := fmt.Sscanf(string(out), "erases=%t open=%d closed=%d", &erases, &open, &closed); err != nil {
			t.Fatalf("reading %q: %v", out, err)
		}
		if !erases || open == 0 {
			t.Fatalf("%s: the scan is blind", out)
		}
		if closed != 0 {
			t.Errorf("keys were found %d times in memory after close, %d times before", closed, open)
		}
	}
}
