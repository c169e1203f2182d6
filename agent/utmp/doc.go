// Package utmp tells a Linux machine's own tools who is logged in: who(1) and w(1) by
// utmp, last(1) by wtmp, lastlog(8) by lastlog.
//
// The files have glibc's layout of the architecture (utmp(5)), without any C. Files
// that do not exist are not made, as with glibc: the administrator does not want them.
//
// Writers lock the whole file with fcntl(2), as glibc's do. But whoever may read a file
// may hold a lock on it, and that is everybody: so a lock is waited for a moment and
// then done without. A record at its place is one write, which the kernel does not mix
// with another one.
//
// On systems without these files, and on architectures whose layout is not known
// here, nothing is written.
//
// Source: issue 4, point 4.
package utmp

import "time"

// Files are the three files; "" is none.
type Files struct{ Utmp, Wtmp, Lastlog string }

// System are those of this machine.
func System() Files {
	return Files{Utmp: "/var/run/utmp", Wtmp: "/var/log/wtmp", Lastlog: "/var/log/lastlog"}
}

// Login is one user at one terminal.
type Login struct {
	PID  int    // of the program on the terminal
	Line string // the terminal without /dev/
	User string
	UID  uint32
	Host string // from where, as it is shown; what is not printable ASCII becomes "?"
	At   time.Time
}
