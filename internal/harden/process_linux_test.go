package harden

import (
	"syscall"
	"testing"
)

// prGetDumpable is PR_GET_DUMPABLE of prctl(2).
const prGetDumpable = 3

func checkUndumpable(t *testing.T) {
	t.Helper()
	if v, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prGetDumpable, 0, 0); errno != 0 || v != 0 {
		t.Errorf("process is dumpable: %d, %v", v, errno)
	}
}
