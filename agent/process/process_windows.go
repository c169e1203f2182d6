package process

import (
	"io"
	"io/fs"
	"os/user"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Path is the only PATH that programs are found by and that sessions get.
const Path = `C:\Windows\System32;C:\Windows;C:\Windows\System32\WindowsPowerShell\v1.0`

const modesCount = false // what is executable is not a matter of mode bits here

// unsupported: pseudo-consoles and switching the user need code that this
// version does not have. The agent joins, reports and refuses sessions by name.
func unsupported() error {
	return refusal.New(refusal.Unavailable, "sessions on Windows are not supported by this version")
}

// Account is a login user of this host.
type Account struct {
	Name   string
	UID    uint32   // not used here
	GID    uint32   // not used here
	Groups []uint32 // not used here
	Home   string
	Shell  string
}

// LookUp finds the user this process runs as, for "", and nobody else.
func LookUp(name string) (Account, error) {
	if name != "" {
		return Account{}, closed("an agent on Windows has its own user only")
	}
	u, err := user.Current()
	if err != nil {
		return Account{}, closed("looking up the agent's own user: %v", err)
	}
	return Account{Name: u.Username, Home: u.HomeDir, Shell: `C:\Windows\System32\cmd.exe`}, nil
}

// Nobody returns the user this process runs as.
func Nobody() (Account, error) { return LookUp("") }

// Start refuses.
func Start(Spec) (*Process, error) { return nil, unsupported() }

// Signal refuses.
func (p *Process) Signal(string) error { return unsupported() }

// SealDescriptors has nothing to do: handles are inherited by name only.
func SealDescriptors() error { return nil }

func (p *Process) sweep() {}

func ended(err error) bool { return err == io.EOF }

func identity(fs.FileInfo) (device, inode uint64) { return 0, 0 }

func systemEnvironment() []string { return []string{`SystemRoot=C:\Windows`} }
