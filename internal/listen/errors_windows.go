package listen

import "syscall"

// takenErrors are of a port that somebody has: WSAEADDRINUSE, and WSAEACCES where whoever
// has it has it exclusively. Go's syscall.EADDRINUSE is a number of its own there.
var takenErrors = []error{syscall.EADDRINUSE, syscall.Errno(10048), syscall.Errno(10013)}

// absentErrors are of a family that the system does not have, or has no loopback in:
// WSAEAFNOSUPPORT, WSAEPROTONOSUPPORT, WSAEADDRNOTAVAIL.
var absentErrors = []error{syscall.Errno(10047), syscall.Errno(10043), syscall.Errno(10049)}
