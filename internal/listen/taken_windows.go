package listen

import "syscall"

// takenErrors are how Windows says it: WSAEADDRINUSE, and WSAEACCES where whoever has the
// port has it exclusively. Go's syscall.EADDRINUSE is a number of its own there.
var takenErrors = []error{syscall.EADDRINUSE, syscall.Errno(10048), syscall.Errno(10013)}
