package process

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestConfinedProcessRunsAndWritesNothingElse(t *testing.T) {
	if _, _, errno := syscall.Syscall(landlockCreateRuleset, 0, 0, landlockVersion); errno != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("this kernel has no Landlock: %v", errno)
		}
		t.Skipf("this kernel has no Landlock (%v): boot one with CONFIG_SECURITY_LANDLOCK and lsm=landlock", errno)
	}
	file := filepath.Join(t.TempDir(), "file")
	tries := `/bin/ls / && echo RAN; (echo x >` + file + `) && echo WROTE; while read -r a b; do echo "$a$b"; done </proc/self/status`
	shell := sh(t).Path
	var out strings.Builder
	cmd := exec.Command(shell, "-c", tries)
	cmd.Stdout = &out
	if err := Confined(shell, func() error { return cmd.Start() }); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if s := out.String(); strings.Contains(s, "RAN") || strings.Contains(s, "WROTE") || !strings.Contains(s, "NoNewPrivs:1") {
		t.Errorf("it says:\n%s", s)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Errorf("the process that started it is confined too: %v", err)
	}
}
