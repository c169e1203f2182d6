// Tucdesk-agent keeps a machine reachable for its team.
package main

import (
	"context"
	"os"

	"github.com/tucdesk/tucdesk/agent"
	"github.com/tucdesk/tucdesk/internal/cli"
)

func main() {
	// Before anything is opened: this process will run as somebody else's user.
	if len(os.Args) == 2 && os.Args[1] == agent.SessionArg {
		os.Exit(agent.SessionMain())
	}
	os.Exit(cli.Main(context.Background(), commands(), os.Args[1:]))
}

func commands() *cli.Command {
	return &cli.Command{
		Use:   "tucdesk-agent",
		Short: "Keep this machine reachable for its team",
		Long: "The agent connects to the team's server, and checks by itself who may do what here.\n" +
			"It opens no port. Run it as root to let sessions run as other users, or as any user for sessions as that user.\n\n" +
			"Exit status: 0 when it was told to stop, 255 the server was not reached; for what join is refused as tucdesk has it (250, 252,\n" +
			"253); 130 Ctrl-C while joining, 2 wrong command line, 1 anything else.",
		Sub: []*cli.Command{joinCommand(), runCommand(), statusCommand()},
	}
}
