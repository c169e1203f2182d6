package terminal

import "golang.org/x/sys/unix"

const (
	getMode = unix.TIOCGETA
	setMode = unix.TIOCSETA
)

// forReading is FREAD of the system's sys/file.h.
const forReading = 1

// discard drops what was typed and not read.
func discard(fd int) error { return unix.IoctlSetPointerInt(fd, unix.TIOCFLUSH, forReading) }
