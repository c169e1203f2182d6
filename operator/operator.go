// Package operator is the operator's terminal client: one file per verb.
//
// The client trusts the team root that its person pinned, and nothing that a
// server says beyond what is signed by keys reachable from there: it verifies
// the roster chain, the policy's hash, every machine's certificate and every
// request that it shows to an approver. What it signs, it made itself.
package operator

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/harden"
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
			"missing, 251 machine offline, 250 not logged in, 2 wrong command line, 1 anything else.",
		Sub: []*cli.Command{
			teamCommand(), loginCommand(), logoutCommand(), whoamiCommand(), statusCommand(), listCommand(), sshCommand(), execCommand(),
			requestsCommand(), tokenCommand(), operatorCommand(), ownerCommand(), agentCommand(), policyCommand(), auditCommand(),
		},
	}
}

const jsonUsage = "print the answer as JSON, in a form that stays stable"

// options are the flags that every verb has.
type options struct {
	state string
	json  bool
}

func (o *options) flags(f *flag.FlagSet) {
	f.StringVar(&o.state, "state", "", "state `folder` (default $XDG_STATE_HOME/tucdesk or ~/.local/state/tucdesk)")
}

func (o *options) jsonFlag(f *flag.FlagSet) {
	o.flags(f)
	f.BoolVar(&o.json, "json", false, jsonUsage)
}

// quietFlag is for verbs whose answer has one word that scripts want alone.
func quietFlag(f *flag.FlagSet, quiet *bool, usage string) {
	f.BoolVar(quiet, "quiet", false, usage)
	f.BoolVar(quiet, "q", false, "")
}

func (o *options) home() (Home, error) {
	if o.state != "" {
		return Home{dir: o.state}, nil
	}
	dir, err := DefaultDir()
	return Home{dir: dir}, err
}

// withAccount opens the account, signs in and runs f.
func (o *options) withAccount(ctx context.Context, io *cli.IO, f func(*account) error) error {
	return o.offline(io, func(a *account) error {
		if err := a.begin(ctx); err != nil {
			return err
		}
		return f(a)
	})
}

// offline opens the account and runs f without having spoken to the server.
func (o *options) offline(io *cli.IO, f func(*account) error) error {
	home, err := o.home()
	if err != nil {
		return err
	}
	a, err := open(home)
	if err != nil {
		return err
	}
	defer a.close()
	for _, w := range a.warnings(time.Now()) {
		io.Say("warning: %s", w)
	}
	return f(a)
}

// completeHosts offers the names of the machines seen last, without the
// network: a completion must answer at once.
func (o *options) completeHosts(_ context.Context, typed string) []string {
	home, err := o.home()
	if err != nil {
		return nil
	}
	a, err := open(home)
	if err != nil {
		return nil
	}
	defer a.close()
	if a.state == nil {
		return nil
	}
	// Verified although it takes a moment: a shell shows these names as they are.
	good, _ := a.verified(claiming(a.knownAgents(), func(c claim) bool { return strings.HasPrefix(c.Name, typed) }), time.Now())
	var names []string
	for _, m := range good {
		if strings.HasPrefix(m.cert.Name, typed) {
			names = append(names, m.cert.Name)
		}
	}
	return names
}
