package pipe

import (
	"crypto/rand"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/tucdesk/tucdesk/internal/acl"
)

// Direction is the way of the bytes.
type Direction bool

// The directions, as the process that calls New sees them.
const (
	In  Direction = true  // the other process writes
	Out Direction = false // the other process reads
)

// buffer is what the system keeps of each pipe, in bytes; our choice, as on Linux. It is
// all that lies between a program and a slow reader.
const buffer = 64 << 10

// New makes a pipe. ours obeys deadlines and Close while somebody waits. theirs is what
// programs expect of a standard stream: it waits in the call that reads or writes. A
// process inherits it only if it is named to CreateProcess, and whoever called New
// closes it then.
//
// Somebody else who connects to the pipe between its making and the opening of its other
// end, which the access list leaves to processes of the same user, makes New fail: there
// is one connection, and it is not shared.
func New(d Direction) (ours *os.File, theirs windows.Handle, err error) {
	path := `\\.\pipe\tucdesk-` + rand.Text()
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, 0, fmt.Errorf("making a pipe: %v", err)
	}
	access, others := uint32(windows.PIPE_ACCESS_INBOUND), uint32(windows.GENERIC_WRITE)
	if d == Out {
		access, others = windows.PIPE_ACCESS_OUTBOUND, windows.GENERIC_READ
	}
	sa, err := acl.Attributes(acl.OneUser)
	if err != nil {
		return nil, 0, fmt.Errorf("making a pipe: %v", err)
	}
	h, err := windows.CreateNamedPipe(name, access|windows.FILE_FLAG_FIRST_PIPE_INSTANCE|windows.FILE_FLAG_OVERLAPPED,
		windows.PIPE_TYPE_BYTE|windows.PIPE_REJECT_REMOTE_CLIENTS, 1, buffer, buffer, 0, sa)
	if err != nil {
		return nil, 0, fmt.Errorf("making a pipe: %v", err)
	}
	inheritable := windows.SecurityAttributes{InheritHandle: 1}
	inheritable.Length = uint32(unsafe.Sizeof(inheritable))
	// Whoever made the pipe may not act as who opens it: it is the same user, but may have fewer rights.
	theirs, err = windows.CreateFile(name, others, 0, &inheritable, windows.OPEN_EXISTING, windows.SECURITY_SQOS_PRESENT|windows.SECURITY_ANONYMOUS, 0)
	if err != nil {
		_ = windows.CloseHandle(h)
		return nil, 0, fmt.Errorf("opening the other end of a pipe: %v", err)
	}
	return os.NewFile(uintptr(h), path), theirs, nil
}
