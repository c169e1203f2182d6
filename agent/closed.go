package agent

import (
	"fmt"
	"os"

	"github.com/tucdesk/tucdesk/agent/pair"
)

// closed says why nobody but root can start this agent's program: no ping and no
// session as another user begins then, and what the operator sees is a fault of the
// agent's. It looks at the file as it is now, so it ends when somebody has mended it.
func (a *Agent) closed() error { return closedToOthers(os.Geteuid(), a.command[0]) }

// closedToOthers is closed for an agent of that user, root or not, and that program.
func closedToOthers(user int, program string) error {
	if user != 0 {
		return nil // its sessions are its own
	}
	info, err := os.Stat(program)
	if err != nil || info.Mode().Perm()&0o001 != 0 {
		return nil
	}
	if self, err := pair.Self(); err == nil && self == program {
		if path, err := os.Executable(); err == nil { // what a person can type
			program = path
		}
	}
	return fmt.Errorf("%q has mode %04o, so pings and sessions as other users cannot begin: chmod 755 %q", program, info.Mode().Perm(), program)
}
