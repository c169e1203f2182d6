package worker

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/agent/pair"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

func TestALentAgentIsThisUsersAloneAndGoesWithItsProgram(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes mean nothing here")
	}
	t.Setenv("TMPDIR", t.TempDir())
	w := supervised(t, func(pair.Ask) pair.Answer { return pair.Answer{} })
	path, leave, err := w.lendAt(t.Context(), nil, 7)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{filepath.Dir(path): 0o700, path: 0o600} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	leave()
	if c, err := net.Dial("unix", path); err == nil {
		_ = c.Close()
		t.Error("somebody still listens there")
	}
	if _, err := os.Stat(filepath.Dir(path)); err == nil {
		t.Error("the folder is still there")
	}
}

func TestAnAgentThatIsNotLentSaysWhy(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	w := supervised(t, func(pair.Ask) pair.Answer {
		return pair.Answer{Code: refusal.PolicyDenied, Detail: "blocked by rule sealed"}
	})
	_, _, err := w.lendAt(t.Context(), nil, 7)
	if refusal.Of(err) != refusal.PolicyDenied || !strings.Contains(err.Error(), "blocked by rule sealed") {
		t.Errorf("it says %v", err)
	}
	if left, _ := os.ReadDir(os.Getenv("TMPDIR")); len(left) > 0 {
		t.Errorf("it leaves %v", left)
	}
}
