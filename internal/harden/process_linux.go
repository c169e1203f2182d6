package harden

import (
	"fmt"
	"syscall"
)

// prSetDumpable is PR_SET_DUMPABLE of prctl(2).
const prSetDumpable = 4

// Process makes this process leave no core file and makes it undumpable, so
// that other processes of the same user cannot attach to it or read its memory.
// Call it first thing in main, before a key is loaded. A program that gets an
// error must not go on: it would run with less protection than promised.
func Process() error {
	if err := noCore(); err != nil {
		return err
	}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetDumpable, 0, 0); errno != 0 {
		return fmt.Errorf("making the process undumpable: %v", errno)
	}
	return nil
}
