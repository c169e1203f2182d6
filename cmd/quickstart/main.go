// Command quickstart runs the whole of TucDesk on this machine: it founds a team
// in a temporary folder, starts server and relay on loopback, joins this machine
// as an agent in a process of its own, opens a shell on it, or
// runs a command, and leaves nothing behind. It types the same commands as a
// person would, into the same code as the real programs run.
//
//	go run ./cmd/quickstart
//	go run ./cmd/quickstart -- uname -a
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/tucdesk/tucdesk/agent"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/terminal"
)

const usage = `quickstart: a team, a server, a relay, an agent and a session, all on this machine

  go run ./cmd/quickstart                a shell on this machine, with server, relay and agent
  go run ./cmd/quickstart -- uname -a    one command; its output and exit status are passed on

Everything lies in a temporary folder and is removed at the end.
`

func main() {
	args := os.Args[1:]
	// The agent starts its session processes, and we the agent, from this very file.
	if len(args) > 0 && (args[0] == agent.SessionArg || args[0] == agentArg) {
		os.Exit(agentProcess(args))
	}
	if len(args) > 0 && args[0] != "--" {
		if args[0] == "-h" || args[0] == "--help" || args[0] == "help" {
			fmt.Fprint(os.Stderr, usage)
			os.Exit(0)
		}
		os.Exit(cli.Report(os.Stderr, mistaken(args)))
	}
	if len(args) > 0 {
		args = args[1:]
	}
	// A reader that leaves ("| head") must not leave keys in the temporary folder.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status, err := run(ctx, args)
	interrupted := ctx.Err() != nil
	stop()
	if err != nil && interrupted {
		fmt.Fprintln(os.Stderr, "interrupted; everything is removed")
		status = cli.ExitInterrupted
	} else if err != nil {
		fmt.Fprintf(os.Stderr, "error: %s\n", terminal.Escape(err.Error()))
	}
	os.Exit(status)
}

// mistaken says what is wrong with a command line that does not begin with "--".
func mistaken(args []string) error {
	if strings.HasPrefix(args[0], "-") {
		return &cli.Error{Err: fmt.Errorf("unknown flag: %s", args[0]), Hints: []string{"quickstart --help"}, Exit: cli.ExitUsage}
	}
	return &cli.Error{Err: fmt.Errorf("a command comes behind \"--\", and %q does not", args[0]), Hints: []string{"quickstart -- " + strings.Join(args, " "), "quickstart --help"}, Exit: cli.ExitUsage}
}
