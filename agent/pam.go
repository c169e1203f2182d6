package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"

	"github.com/tucdesk/tucdesk/agent/pair"
	"github.com/tucdesk/tucdesk/agent/process"
)

// runusers are where util-linux has its program; not looked for by PATH, which the
// agent's starter chose.
var runusers = [...]string{"/usr/sbin/runuser", "/usr/bin/runuser", "/sbin/runuser"}

// openPAM finds what opens PAM sessions. An agent that was told to and cannot does not
// start: sessions without limits are not what was asked for.
func (a *Agent) openPAM(wanted bool) error {
	if !wanted {
		return nil
	}
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		return errors.New("opening PAM sessions: only root on Linux can")
	}
	for _, path := range runusers {
		if _, err := os.Stat(path); err == nil {
			a.runuser = path
			return nil
		}
	}
	return fmt.Errorf("opening PAM sessions: there is no %q here; it is in the package util-linux", runusers[0])
}

// spawner starts session processes and holders.
func (a *Agent) spawner(account process.Account, given ...*os.File) func() (*exec.Cmd, io.ReadWriteCloser, error) {
	return func() (cmd *exec.Cmd, rw io.ReadWriteCloser, err error) {
		err = process.AsLogin(account.UID, func() (err error) {
			if a.runuser != "" {
				cmd, rw, err = pair.SpawnLogin(a.runuser, a.command, account, given...)
			} else {
				cmd, rw, err = pair.Spawn(a.command, account, given...)
			}
			return err
		})
		return cmd, rw, err
	}
}
