//go:build unix

package harden

import (
	"fmt"
	"syscall"
)

// noCore sets the soft and the hard limit, so no child can raise it again.
func noCore() error {
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("turning core dumps off: %v", err)
	}
	return nil
}
