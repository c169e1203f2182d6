// Package operator is the operator's terminal client: one file per verb, in the
// packages below where several verbs share an idea.
//
// The client trusts the team root that its person pinned, and nothing that a
// server says beyond what is signed by keys reachable from there: it verifies
// the roster chain, the policy's hash, every machine's certificate and every
// request that it shows to an approver. What it signs, it made itself.
package operator

import (
	"context"
	"fmt"
	"os"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/harden"
	"github.com/tucdesk/tucdesk/operator/cosign"
	"github.com/tucdesk/tucdesk/operator/files"
	"github.com/tucdesk/tucdesk/operator/founding"
	"github.com/tucdesk/tucdesk/operator/members"
	"github.com/tucdesk/tucdesk/operator/netcheck"
	"github.com/tucdesk/tucdesk/operator/remote"
	"github.com/tucdesk/tucdesk/operator/request"
	"github.com/tucdesk/tucdesk/operator/sshconfig"
)

// Main runs the operator's program and returns its exit status.
func Main(ctx context.Context, args []string) int {
	// An operator's memory holds session keys and, for a moment, owner keys: no core file.
	if err := harden.Process(); err != nil {
		fmt.Fprintf(os.Stderr, "warning: %v\n", err)
	}
	return cli.Main(ctx, Command(), args)
}

// Command is the whole tree of verbs.
func Command() *cli.Command {
	return &cli.Command{
		Use:   "tucdesk",
		Short: "Remote access that no server in between can open",
		Long: "tucdesk opens shells and runs commands on your team's machines. Sessions are sealed end to end;\n" +
			"the server and the relay in between pass sealed bytes and can refuse, but never open or fake one.\n\n" +
			"Exit status: the remote command's own; 255 session not had or lost, 253 denied, 252 approval or signature\n" +
			"missing, 251 machine offline, 250 not logged in, 130 Ctrl-C, 127 no such program there, 126 it cannot be run, 3 an audit\n" +
			"log that is outdated, 4 one whose end is not known, 2 wrong command line, 1 anything else.",
		Sub: []*cli.Command{
			teamCommand(), loginCommand(), logoutCommand(), whoamiCommand(), statusCommand(), listCommand(), remote.SSHCommand(), remote.ExecCommand(), files.Command(),
			remote.SessionsCommand(), remote.AttachCommand(), remote.ForwardCommand(), remote.PingCommand(), remote.ProxyCommand(), remote.MasterCommand(), sshconfig.Command(), netcheck.Command(),
			request.RequestsCommand(), tokenCommand(), members.OperatorCommand(), members.OwnerCommand(), members.AgentCommand(), policyCommand(), auditCommand(),
		},
	}
}

// teamCommand is the noun team.
func teamCommand() *cli.Command {
	return &cli.Command{Use: "team", Short: "Found a team, show and change it", Sub: []*cli.Command{
		founding.Command(), members.TeamShowCommand(), members.TeamRenewCommand(), cosign.Command(), cosign.PublishCommand(), members.TeamMinVersionCommand(),
	}}
}
