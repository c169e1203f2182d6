//go:build unix

package harden

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// childEnv makes the test binary play the hardened process.
const childEnv = "HARDEN_TEST_CHILD"

func child(t *testing.T, test string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+test+"$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"=1", "GOTRACEBACK=crash")
	cmd.Dir = t.TempDir()
	return cmd
}

func TestProcessTurnsCoreDumpsOff(t *testing.T) {
	if os.Getenv(childEnv) == "" {
		if out, err := child(t, "TestProcessTurnsCoreDumpsOff").CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	if err := Process(); err != nil {
		t.Fatal(err)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &limit); err != nil || limit.Cur != 0 || limit.Max != 0 {
		t.Errorf("core limit is %+v, %v", limit, err)
	}
	checkUndumpable(t)
	if err := Process(); err != nil {
		t.Errorf("a second call: %v", err)
	}
}

// TestA21CrashLeavesNoCore aborts a hardened process.
func TestA21CrashLeavesNoCore(t *testing.T) {
	if os.Getenv(childEnv) != "" {
		if err := Process(); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGABRT); err != nil {
			t.Fatal(err)
		}
		select {}
	}
	cmd := child(t, "TestA21CrashLeavesNoCore")
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("the process did not crash: %v", err)
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.CoreDump() {
		t.Error("a core was dumped")
	}
	left, err := os.ReadDir(cmd.Dir)
	if err != nil || len(left) != 0 {
		t.Errorf("files left behind: %v, %v", left, err)
	}
}
