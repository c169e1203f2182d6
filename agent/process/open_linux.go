package process

import (
	"fmt"
	"os"
	"syscall"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

const (
	oPath = 0x200000 // O_PATH of open(2): a name for the file, also where it may be executed but not read

	// highFd keeps the descriptor clear of the low numbers that fork moves
	// descriptors through on the way to 0, 1, 2.
	highFd = 256
)

// openProgram opens the judged file and returns a path by which to execute that
// very file. release closes it in this process.
func openProgram(f File) (path string, release func(), err error) {
	if f.Inode == 0 {
		return f.Path, func() {}, nil // a login shell, from the system's own account table
	}
	fd, err := syscall.Open(f.Path, oPath|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return "", nil, fmt.Errorf("opening %q: %w", f.Path, err)
	}
	defer syscall.Close(fd)
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return "", nil, fmt.Errorf("opening %q: %w", f.Path, err)
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFREG || uint64(st.Dev) != f.Device || st.Ino != f.Inode {
		return "", nil, refusal.New(refusal.CommandNotFound, "it is not the file any more that the request was judged by")
	}
	if isScript(fd) {
		return f.Path, func() {}, nil
	}
	high, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, highFd)
	if errno != 0 {
		return "", nil, fmt.Errorf("opening %q: %w", f.Path, errno)
	}
	return fmt.Sprintf("/proc/self/fd/%d", high), func() { _ = syscall.Close(int(high)) }, nil
}

// isScript reports a file that its interpreter has to open again. A file that we
// may not read is none: its interpreter could not read it either.
func isScript(fd int) bool {
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return false
	}
	defer f.Close()
	var head [2]byte
	n, _ := f.Read(head[:])
	return n == 2 && head == [2]byte{'#', '!'}
}
