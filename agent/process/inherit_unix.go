//go:build unix

package process

import (
	"os"
	"os/signal"
	"syscall"
)

// defaultMask is what a login sets where nothing else is configured.
const defaultMask = 0o022

// ForgetStarter drops what the agent's own starter passed on and a session
// program must not inherit: its file mode mask, and a SIGHUP that nohup made it
// ignore, without which closing a terminal would end nothing. A signal that is
// caught here is back at its default in the program.
func ForgetStarter() {
	syscall.Umask(defaultMask)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
}
