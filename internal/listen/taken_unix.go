//go:build unix

package listen

import "syscall"

var takenErrors = []error{syscall.EADDRINUSE}
