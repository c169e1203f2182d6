package process

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ofCompat is set in the number of a call of x32, which an x86-64 kernel may take
// beside its own.
const ofCompat = 0x40000000

// offsets of struct seccomp_data.
const (
	offsetNumber = 0
	offsetArch   = 4
)

// archOf is how the kernel names the one set of calls that this program makes.
func archOf() (uint32, bool) {
	switch runtime.GOARCH {
	case "amd64":
		return unix.AUDIT_ARCH_X86_64, true
	case "arm64":
		return unix.AUDIT_ARCH_AARCH64, true
	}
	return 0, false
}

// SealPrograms takes from this process, all its threads, the means to run another
// program, for good. Confined's exceptions by path do not reach that far: Landlock
// knows files that have a path, and a process may run what it has only in memory
// (memfd_create) by way of its descriptor. There is no error on a kernel without
// filters for calls, nor on an architecture that we have no filter for; see Missing.
func SealPrograms() error {
	arch, known := archOf()
	if !known {
		return nil
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil { // the filter goes to all threads, and this with it
		return fmt.Errorf("giving up rights: %v", err)
	}
	filter := withoutExec(arch)
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	other, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(filter)
	switch {
	case errno == unix.ENOSYS, errno == 0 && other == 0:
		return nil
	case errno == 0: // the id of a thread that has other filters, so none was set
		return errors.New("giving up to run programs: not for all threads")
	}
	return fmt.Errorf("giving up to run programs: %v", errno)
}

// withoutExec fails execve and execveat with EPERM, and every call of another set
// than arch's: an x86-64 kernel also takes the numbers of 32 bits and of x32.
func withoutExec(arch uint32) []unix.SockFilter {
	const deny, allow = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM), unix.SECCOMP_RET_ALLOW
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	jump := func(how uint16, k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | how, K: k, Jt: yes, Jf: no}
	}
	end := func(action uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
	}
	return []unix.SockFilter{
		load(offsetArch),
		jump(unix.BPF_JEQ, arch, 0, 5), // else to deny
		load(offsetNumber),
		jump(unix.BPF_JGE, ofCompat, 3, 0),
		jump(unix.BPF_JEQ, unix.SYS_EXECVE, 2, 0),
		jump(unix.BPF_JEQ, unix.SYS_EXECVEAT, 1, 0),
		end(allow),
		end(deny),
	}
}

// Missing returns what of Confined and SealPrograms this kernel does not have, in
// words for an administrator, or nil.
func Missing() error {
	var missing []error
	if _, err := landlock(); errors.Is(err, errNoLandlock) {
		missing = append(missing, err)
	}
	action := uint32(unix.SECCOMP_RET_ERRNO)
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action)))
	if _, known := archOf(); !known || errno == unix.ENOSYS {
		missing = append(missing, errors.New("no filters for calls (seccomp): they may run what they have in memory"))
	}
	return errors.Join(missing...)
}
