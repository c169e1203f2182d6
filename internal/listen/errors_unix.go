//go:build unix

package listen

import "syscall"

// takenErrors are of a port that somebody has.
var takenErrors = []error{syscall.EADDRINUSE}

// absentErrors are of a family that the system does not have, or has no loopback in.
var absentErrors = []error{syscall.EAFNOSUPPORT, syscall.EPROTONOSUPPORT, syscall.EADDRNOTAVAIL}
