// Command bench measures TucDesk side by side with OpenSSH and mosh, with the real
// programs on the same emulated link.
//
//	go run ./cmd/bench list
//	go run ./cmd/bench run
//	go run ./cmd/bench run --json echo prompt
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tucdesk/tucdesk/internal/bench"
	"github.com/tucdesk/tucdesk/internal/cli"
)

func root() *cli.Command {
	cfg := bench.Config{Repeat: 3, Keys: 400, Execs: 100, Bulk: 128 << 20, Loopback: 1 << 30, File: 1 << 30, Files: 10_000, Idle: time.Minute, Sleep: 20 * time.Second}
	var asJSON bool
	var without string
	return &cli.Command{
		Use:   "bench",
		Short: "Measure TucDesk side by side with OpenSSH and mosh",
		Long: "Builds the programs of this checkout and runs them, sshd and mosh-server on hosts of an emulated network.\nNeeds root; what else is missing is said.\n\n" +
			"Exit status: 0 when everything was measured or is said to be missing, 2 wrong command line, 130 ended by Ctrl-C,\n1 anything else.",
		Sub: []*cli.Command{
			{Use: "list", Short: "List the rows", Example: "bench list", Run: list},
			{
				Use:     "run [ROW...]",
				Short:   "Measure rows, or all of them",
				Long:    "Prints medians, spreads and ratios on standard output and progress on standard error. The row files takes\nmore than an hour each time, nearly all of it scp and sftp; see --without. Ctrl-C ends everything\nthat was started and leaves nothing behind.",
				Example: "bench run\nbench run --keys 2000 echo\nbench run --without scp,sftp files\nbench run --json > figures.json",
				MaxArgs: len(bench.Rows()),
				Flags: func(f *flag.FlagSet) {
					f.IntVar(&cfg.Repeat, "repeat", cfg.Repeat, "measure `N` times what is not made of many parts")
					f.IntVar(&cfg.Keys, "keys", cfg.Keys, "type `N` keys in rows about echo")
					f.IntVar(&cfg.Execs, "execs", cfg.Execs, "run `N` commands in the row about many of them")
					f.Int64Var(&cfg.Bulk, "bulk", cfg.Bulk, "copy so many `bytes` over the emulated link")
					f.Int64Var(&cfg.Loopback, "loopback", cfg.Loopback, "copy so many `bytes` over loopback")
					f.Int64Var(&cfg.File, "file", cfg.File, "the one file in rows about files has so many `bytes`")
					f.IntVar(&cfg.Files, "files", cfg.Files, "copy `N` files in rows about many")
					f.StringVar(&without, "without", "", "leave these `copiers` out of rows about files, separated by commas")
					f.DurationVar(&cfg.Idle, "idle", cfg.Idle, "watch idle sessions for that `time`")
					f.DurationVar(&cfg.Sleep, "sleep", cfg.Sleep, "stop everybody for that `time` in the row about sleep")
					f.StringVar(&cfg.Programs, "programs", "", "`folder` of built programs (default: build those of this checkout)")
					f.BoolVar(&asJSON, "json", false, cli.JSONUsage)
				},
				Run: func(ctx context.Context, io *cli.IO, rows []string) error {
					cfg.Log, cfg.Without = io.Err, strings.FieldsFunc(without, func(c rune) bool { return c == ',' })
					if err := bench.Check(cfg, rows); err != nil {
						return &cli.Error{Err: err, Exit: cli.ExitUsage}
					}
					report, err := bench.Run(ctx, cfg, rows)
					if err != nil {
						return err
					}
					if asJSON {
						return io.PrintJSON(report)
					}
					return report.Print(io.Out)
				},
			},
		},
	}
}

func list(_ context.Context, io *cli.IO, _ []string) error {
	t := tabwriter.NewWriter(io.Out, 0, 0, 2, ' ', 0)
	for _, r := range bench.Rows() {
		fmt.Fprintf(t, "%s\t%s\n", r.Name, r.What)
	}
	return t.Flush()
}

func main() { os.Exit(cli.Main(context.Background(), root(), os.Args[1:])) }
