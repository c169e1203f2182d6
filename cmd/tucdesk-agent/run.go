package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"

	"github.com/tucdesk/tucdesk/agent"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/harden"
)

func runCommand() *cli.Command {
	var dir, ports, addresses string
	var most int
	var asJSON, alone, pam bool
	return &cli.Command{
		Use:   "run",
		Short: "Stay connected and serve sessions until stopped",
		Long: "Runs in the foreground and logs to standard error, as a service manager wants it. Without a server it\n" +
			"waits and tries again for ever; it finishes a join that broke off. SIGTERM ends all sessions and the agent.",
		Example: "tucdesk-agent run\ntucdesk-agent run --state /srv/agent --max-sessions 200\ntucdesk-agent run --direct-ports 40000-40099 --direct-address 203.0.113.7",
		Flags: func(f *flag.FlagSet) {
			stateFlag(&dir)(f)
			f.IntVar(&most, "max-sessions", agent.DefaultMaxSessions, "sessions open at the same time, at most `N`")
			f.BoolVar(&alone, "no-port-mapping", false, "never ask the router to forward a port to a session")
			f.StringVar(&ports, "direct-ports", "", "UDP `PORTS`, as 40000-40099, at which sessions are reached without a relay: one each (default any)")
			f.StringVar(&addresses, "direct-address", "", "`ADDRESSES` at which a firewall or router lets the direct ports through to this machine, separated by commas")
			f.BoolVar(&pam, "pam", false, "open a PAM session around every session, by the system's runuser (Linux, as root)")
			f.BoolVar(&asJSON, "log-json", false, "log lines as JSON")
		},
		Run: func(ctx context.Context, io *cli.IO, _ []string) error {
			if most < 1 {
				return &cli.Error{Err: fmt.Errorf("--max-sessions %d: an agent has at least 1", most), Exit: cli.ExitUsage}
			}
			direct, err := agent.ParseDirect(ports, addresses)
			if err != nil {
				return &cli.Error{Err: err, Hints: []string{"tucdesk-agent run --direct-ports 40000-40099 --direct-address 203.0.113.7"}, Exit: cli.ExitUsage}
			}
			if err := harden.Process(); err != nil {
				return err
			}
			agent.TuneMemory()
			state, err := stateDir(dir)
			if err != nil {
				return err
			}
			cfg := agent.Config{Version: cli.Version(), MaxSessions: most, NoPortMapping: alone, Direct: direct, PAM: pam, Logger: logger(io.Err, asJSON)}
			if err := agent.FinishJoin(ctx, state, cfg); err != nil {
				return unopened(err, state, "run")
			}
			a, err := agent.Open(state, cfg)
			if err != nil {
				return unopened(err, state, "run")
			}
			defer a.Close()
			return a.Run(ctx)
		},
	}
}

func logger(w io.Writer, asJSON bool) *slog.Logger {
	if asJSON {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(slog.NewTextHandler(w, nil))
}
