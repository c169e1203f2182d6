// Command tucdesk-server is the rendezvous server, with a relay in the same
// process unless its configuration names relays elsewhere.
package main

import (
	"context"
	"flag"
	"os"
	"path/filepath"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/rendezvous"
)

// defaultState is where packages and service files put the server's state.
const defaultState = "/var/lib/tucdesk-server"

// place says where the configuration is; a flag of every command.
type place struct {
	state  string
	config string // "" is server.toml in the state folder
}

func (p *place) flags(f *flag.FlagSet) {
	f.StringVar(&p.state, "state", defaultState, "`DIR` of the server's keys and database")
	f.StringVar(&p.config, "config", "", "configuration `FILE` (default server.toml in the state folder)")
}

func (p *place) file() string {
	if p.config != "" {
		return p.config
	}
	return filepath.Join(p.state, rendezvous.ConfigFile)
}

func root() *cli.Command {
	var at place
	var first firstStart
	var asJSON bool
	return &cli.Command{
		Use:   "tucdesk-server",
		Short: "Introduce operators and agents; open nothing",
		Long: `The rendezvous server keeps the registry, policy, approvals and audit log of
its teams, and forwards sealed datagrams. It holds no key that could open a session.

Exit status: 0 when it was told to stop, 130 Ctrl-C before it served, 2 wrong command line, 1 anything else.`,
		Sub: []*cli.Command{
			{
				Use:   "run",
				Short: "Serve until told to stop",
				Long: `The first start needs --url, the address under which operators and agents will
reach this server; it makes keys and configuration in the state folder and
prints a setup string for the team's owner. Later starts never make a key.`,
				Example: "tucdesk-server run --url https://rv.example.com   # first start\ntucdesk-server run",
				Flags:   func(f *flag.FlagSet) { at.flags(f); first.flags(f) },
				Run: func(ctx context.Context, io *cli.IO, _ []string) error {
					return at.about("run", run(ctx, io, at, first))
				},
			},
			{
				Use:     "setup-code",
				Short:   "Print a setup string for a further team",
				Long:    "The string is good for one team and for a day. Give it to the team's owner alone.",
				Example: "tucdesk-server setup-code",
				Flags:   at.flags,
				Run: func(ctx context.Context, io *cli.IO, _ []string) error {
					return at.about("setup-code", setupCode(ctx, io, at))
				},
			},
			{
				Use:     "check",
				Short:   "Check the configuration and keys, and change nothing",
				Long:    "Reads what run would read, without opening a port or the database. Exits 0 when they are in order, 1 with what is not.\n\n" + keys,
				Example: "tucdesk-server check --config /etc/tucdesk/server.toml",
				Flags:   func(f *flag.FlagSet) { at.flags(f); f.BoolVar(&asJSON, "json", false, cli.JSONUsage) },
				Run:     func(_ context.Context, io *cli.IO, _ []string) error { return at.about("check", check(io, at, asJSON)) },
			},
		},
	}
}

func main() { os.Exit(cli.Main(context.Background(), root(), os.Args[1:])) }
