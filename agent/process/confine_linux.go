package process

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"unsafe"
)

// Numbers of prctl(2) and of Landlock, the latter the same on every architecture.
const (
	prSetNoNewPrivs = 38

	landlockCreateRuleset = 444
	landlockAddRule       = 445
	landlockRestrictSelf  = 446
	landlockPathBeneath   = 1
	landlockVersion       = 1

	mayExecute  = 1 << 0
	mayWrite    = 1 << 1
	mayChange   = 0x1ff0 // remove and make files of every kind
	mayTruncate = 1 << 14
)

// Confined calls start on a thread that can gain no rights any more, run no file that
// has a path but program, and write to none; what start starts cannot do so either.
// Reading is as before. A kernel without Landlock gives the first of these alone (see
// Missing); that one with it refuses it, as a container's rules may, is an error. What
// is started has to call SealPrograms as soon as it runs. program is a path.
func Confined(program string, start func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine, what it gave up cannot be had back
		err := giveUp(program)
		if err == nil {
			err = start()
		}
		done <- err
	}()
	return <-done
}

func giveUp(program string) error {
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("giving up rights: %v", errno)
	}
	version, err := landlock()
	if errors.Is(err, errNoLandlock) {
		return nil
	}
	if err != nil {
		return err
	}
	handled := uint64(mayExecute | mayWrite | mayChange)
	if version >= 3 {
		handled |= mayTruncate
	}
	set, _, errno := syscall.Syscall(landlockCreateRuleset, uintptr(unsafe.Pointer(&handled)), unsafe.Sizeof(handled), 0)
	if errno != 0 {
		return fmt.Errorf("confining a process: %v", errno)
	}
	defer syscall.Close(int(set))
	err = errors.Join(allow(set, program, mayExecute), allow(set, os.DevNull, mayWrite))
	if loader := loaderOf(program); loader != "" {
		err = errors.Join(err, allow(set, loader, mayExecute))
	}
	if err != nil {
		return fmt.Errorf("confining a process: %w", err)
	}
	if _, _, errno := syscall.RawSyscall(landlockRestrictSelf, set, 0, 0); errno != 0 {
		return fmt.Errorf("confining a process: %v", errno)
	}
	return nil
}

// errNoLandlock is what an administrator is told of a kernel that has none.
var errNoLandlock = errors.New("no Landlock: they may run and write what their user may")

// landlock returns the version of Landlock's interface. It fails with errNoLandlock
// only where the kernel says that there is none; any other answer is somebody's who
// keeps it from us, and nothing is confined by believing it.
func landlock() (version uintptr, err error) {
	version, _, errno := syscall.Syscall(landlockCreateRuleset, 0, 0, landlockVersion)
	return version, landlockError(errno)
}

func landlockError(errno syscall.Errno) error {
	switch errno {
	case 0:
		return nil
	case syscall.ENOSYS, syscall.EOPNOTSUPP:
		return errNoLandlock
	}
	return fmt.Errorf("confining a process: asking for Landlock: %v", errno)
}

// allow makes an exception for one file.
func allow(set uintptr, path string, access uint64) error {
	fd, err := syscall.Open(path, oPath|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	var rule [12]byte // packed: access, descriptor
	binary.NativeEndian.PutUint64(rule[:], access)
	binary.NativeEndian.PutUint32(rule[8:], uint32(fd))
	if _, _, errno := syscall.Syscall6(landlockAddRule, set, landlockPathBeneath, uintptr(unsafe.Pointer(&rule)), 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// loaderOf returns the file that the kernel runs first for a program that is linked
// dynamically, or "". Releases are not, tests are.
func loaderOf(program string) string {
	f, err := elf.Open(program)
	if err != nil {
		return ""
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP && p.Filesz < 4096 {
			path := make([]byte, p.Filesz)
			if _, err := p.ReadAt(path, 0); err == nil {
				return strings.TrimRight(string(path), "\x00")
			}
		}
	}
	return ""
}
