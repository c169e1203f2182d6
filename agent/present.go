package agent

import (
	"os"
	"time"

	"github.com/tucdesk/tucdesk/agent/judge"
	"github.com/tucdesk/tucdesk/agent/utmp"
)

// loginPrefix begins what who(1) and last(1) show as the place that somebody came
// from: there is no address that would mean anything, but there is an operator.
const loginPrefix = "tucdesk:"

// present writes down for the machine's own tools that a program has a terminal, and
// returns what to give to absent. pid is the word of a child that is taken for
// hostile; which terminal that process has is the kernel's, and it must be the child's
// own. nil where there is nothing to write: without root the files are not ours.
func (a *Agent) present(c *child, pid int, q *judge.Question) *utmp.Login {
	if os.Geteuid() != 0 || !q.Request.Params.TTY {
		return nil
	}
	line := utmp.TerminalOf(pid, c.cmd.Process.Pid)
	if line == "" {
		return nil
	}
	r := &utmp.Login{PID: pid, Line: line, User: q.Account.Name, UID: q.Account.UID, Host: loginPrefix + q.Operator.Email, At: time.Now()}
	if err := a.logins.In(*r); err != nil {
		a.log.Warn("telling the machine's own tools of a login", "session", q.Request.Session.String(), "err", err)
	}
	return r
}

// absent writes down the end of what present has returned, however it came: also when
// session process or holder was killed.
func (a *Agent) absent(r *utmp.Login) {
	if r == nil {
		return
	}
	if err := a.logins.Out(*r, time.Now()); err != nil {
		a.log.Warn("telling the machine's own tools of the end of a login", "err", err)
	}
}

// openLogins ends the records of an agent that was killed.
func (a *Agent) openLogins(files *utmp.Files) {
	if a.logins = utmp.System(); files != nil {
		a.logins = *files
	}
	if os.Geteuid() != 0 {
		return
	}
	if err := a.logins.Sweep(loginPrefix, time.Now()); err != nil {
		a.log.Warn("ending the login records of an agent that was killed", "err", err)
	}
}
