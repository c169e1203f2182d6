package process

import (
	"fmt"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/windows"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Signal does what this system has in place of the named signal: INT is Ctrl-C and TERM
// Ctrl-Break, to all programs of the terminal, or of the program's own console if it is
// on pipes; HUP closes its terminal or its input; KILL ends the whole job. Others are
// refused with BadArgument: to take one for another would surprise.
func (p *Process) Signal(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.exited:
		return nil
	default:
	}
	switch name {
	case "INT":
		return p.press(windows.CTRL_C_EVENT)
	case "TERM":
		return p.press(windows.CTRL_BREAK_EVENT)
	case "HUP":
		if c, ok := p.tty.(*console); ok {
			c.release()
			return nil
		}
		return p.stdin.Close()
	case "KILL":
		return windows.TerminateJobObject(p.job, killedCode)
	}
	return refusal.New(refusal.BadArgument, "Windows has nothing like this signal")
}

var (
	kernel        = windows.NewLazySystemDLL("kernel32.dll")
	attachConsole = kernel.NewProc("AttachConsole")
	freeConsole   = kernel.NewProc("FreeConsole")
)

// onConsole is held by who has this process on a console: it can be on one at a time.
var onConsole sync.Mutex

// press types Ctrl-C or Ctrl-Break on the program's console, for which this process,
// which has none, joins it for a moment. It hears the key itself: see ForgetStarter.
func (p *Process) press(event uint32) error {
	onConsole.Lock()
	defer onConsole.Unlock()
	if ok, _, err := attachConsole.Call(uintptr(p.pid)); ok == 0 {
		return fmt.Errorf("joining the program's console: %v", err)
	}
	defer freeConsole.Call()
	if err := windows.GenerateConsoleCtrlEvent(event, 0); err != nil {
		return fmt.Errorf("pressing a key on the program's console: %v", err)
	}
	return nil
}

// ForgetStarter has programs hear Ctrl-C although whoever started the agent may have
// turned it off, which is inherited, and makes it and Ctrl-Break, which press sends to
// everybody on a console, do nothing to this process.
func ForgetStarter() {
	_, _, _ = kernel.NewProc("SetConsoleCtrlHandler").Call(0, 0) // there is nothing to be done where it fails
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
}
