package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
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

func TestOnlyAKernelWithoutLandlockIsExcused(t *testing.T) {
	for errno, none := range map[syscall.Errno]bool{syscall.ENOSYS: true, syscall.EOPNOTSUPP: true, syscall.EPERM: false, syscall.EACCES: false, syscall.EINVAL: false} {
		if err := landlockError(errno); err == nil || errors.Is(err, errNoLandlock) != none {
			t.Errorf("%v: %v", errno, err)
		}
	}
	if err := landlockError(0); err != nil {
		t.Error(err)
	}
}

// actSealed tries all that runs a program, says what happened, and goes on living.
func actSealed() {
	memory, err := unix.MemfdCreate("program", 0)
	if err != nil {
		fmt.Println("memfd:", err)
		return
	}
	text, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		fmt.Println("reading:", err)
		return
	}
	if _, err := unix.Write(memory, text); err != nil {
		fmt.Println("writing:", err)
		return
	}
	others := make(chan func() error)
	done := make(chan error)
	for range 4 { // threads that are there before
		go func() {
			runtime.LockOSThread()
			for try := range others {
				done <- try()
			}
		}()
	}
	if os.Getenv(sealedEnv) != "no" {
		if err := SealPrograms(); err != nil {
			fmt.Println("sealing:", err)
			return
		}
	}
	// In children: where an exec is let through, this process has to live to tell.
	start := func(path string) error {
		cmd := exec.Command(path)
		cmd.Env = []string{helperEnv + "=argv"}
		return cmd.Run()
	}
	for _, path := range []string{"/bin/ls", fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), memory), "/proc/self/exe"} {
		others <- func() error { return start(path) }
		fmt.Println(path == "/bin/ls", errors.Is(<-done, unix.EPERM))
	}
	empty := []byte{0}
	argv := []*byte{nil}
	others <- func() error { // fails by itself where it is not stopped: there is no such flag
		_, _, errno := unix.Syscall6(unix.SYS_EXECVEAT, uintptr(memory), uintptr(unsafe.Pointer(&empty[0])), uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&argv[0])), 1<<30, 0)
		return errno
	}
	fmt.Println("execveat", errors.Is(<-done, unix.EPERM))
}

const sealedEnv = "TUCDESK_TEST_SEALED"

// TestSealedProcessRunsNothing: a process that somebody took over may have its program
// in memory alone, where no rule about paths applies.
func TestSealedProcessRunsNothing(t *testing.T) {
	t.Parallel()
	action := uint32(unix.SECCOMP_RET_ERRNO)
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action))); errno != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("this kernel filters no calls: %v", errno)
		}
		t.Skipf("this kernel filters no calls (%v): boot one with CONFIG_SECCOMP_FILTER", errno)
	}
	for sealed, want := range map[string]string{"yes": "true true\nfalse true\nfalse true\nexecveat true\n", "no": "true false\nfalse false\nfalse false\nexecveat false\n"} {
		cmd := exec.Command(self(t).Path)
		cmd.Env = []string{helperEnv + "=sealed", sealedEnv + "=" + sealed}
		out, err := cmd.CombinedOutput()
		if err != nil || string(out) != want {
			t.Errorf("sealed %s: %v, it says\n%s", sealed, err, out)
		}
	}
}
