package remote

import (
	"context"
	"flag"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/fleet"
	"github.com/tucdesk/tucdesk/operator/master"
	"github.com/tucdesk/tucdesk/operator/verb"
)

// execOptions are the flags of exec.
type execOptions struct {
	sessionOptions
	all, group, stdin bool
	parallel          int
	on                verb.ListFlag
	logDir            string
	persist           time.Duration
}

// Bounds of --parallel; our choice.
const (
	usualParallel = 10
	mostParallel  = 256
)

// ExecCommand is the verb exec.
func ExecCommand() *cli.Command {
	var o execOptions
	return &cli.Command{
		Use: "exec [USER@]HOST[,HOST...]|LABEL=VALUE[,...] -- ARGV...", Short: "Run one command with exact arguments, on one machine or many",
		Long: "Runs ARGV without a shell: what you type is what is signed, approved and run, argument by argument. Output and\n" +
			"exit status are passed on; a signal becomes 128 plus its number.\n\n" +
			"Names separated by commas, or labels, of which a machine must have all, run it on many machines, and --on adds\n" +
			"others: a request of its own for each, --parallel at once, approvals are waited for side by side. Each line is printed behind its machine's name as it comes, control characters shown and not\n" +
			"passed on. Standard input is empty then, unless --stdin. What failed is listed at the end.\n\n" +
			"Exit status of many: 0 when all ended with 0, else the highest of all, where a machine that was not reached\n" +
			"counts as with one machine (255, 253 denied, 252 approval missing, 251 offline); 130 after Ctrl-C.",
		Example: "tucdesk exec web -- uname -a\ntucdesk exec -l deploy --reason 'ticket 4711' web -- systemctl restart nginx\n" +
			"tucdesk exec web1,web2 -- uptime\ntucdesk exec env=prod,role=web --log-dir logs -- df -h\necho hello | tucdesk exec web -- cat",
		MinArgs: 1, MaxArgs: -1, Complete: o.CompleteMachines, Again: func() bool { return !o.all }, Dashes: true,
		Flags: func(f *flag.FlagSet) {
			o.sessionFlags(f)
			f.StringVar(&o.cwd, "cwd", "", "working `directory` (default: the user's home)")
			f.Var(&o.on, "on", "on these `MACHINES` too, as the first argument has them; may be given again")
			f.BoolVar(&o.all, "all", false, "on every machine of the team; all arguments are the command")
			f.IntVar(&o.parallel, "parallel", usualParallel, "on so many machines at once: `N`")
			f.BoolVar(&o.group, "group", false, "print a machine's output when it has ended, under its name")
			f.StringVar(&o.logDir, "log-dir", "", "write the output, byte by byte, to HOST.stdout and HOST.stderr in `folder`")
			f.BoolVar(&o.JSON, "json", false, "print one JSON value per line of output, per machine and at the end")
			verb.SpanVar(f, &o.persist, "persist", "leave a process behind for that `time` without work, which does the next ones with --persist sooner")
			f.BoolVar(&o.stdin, "stdin", false, "read standard input to its end and give a copy to each of many machines")
		},
		Run: o.run,
	}
}

func (o *execOptions) run(ctx context.Context, tio *cli.IO, args []string) error {
	form, err := fleet.FormOf(o.group, o.JSON, o.logDir)
	if err != nil {
		return &cli.Error{Err: err, Exit: cli.ExitUsage}
	}
	words, argv, err := o.split(args)
	if err != nil {
		return err
	}
	if len(argv) == 0 {
		return usage("tucdesk exec HOST -- uname -a", "there is no command")
	}
	selection := fleet.All()
	if !o.all {
		if selection, err = fleet.Parse(words); err != nil {
			return &cli.Error{Err: err, Exit: cli.ExitUsage}
		}
	}
	if one, ok := selection.One(); ok && form == fleet.Prefixed && o.logDir == "" {
		return cli.About(one.Name, o.single(ctx, tio, one, argv))
	}
	switch {
	case o.tty > 0 && !o.noTTY:
		return usage("", "-t is for one machine")
	case o.parallel < 1 || o.parallel > mostParallel:
		return usage("", "--parallel %d: want 1 to %d", o.parallel, mostParallel)
	}
	return o.onMany(ctx, tio, selection, form, argv)
}

// split takes the machines from the command. They are one word, or none with --all: a
// command may have a "--" of its own. One word more before "--" is a machine to who
// typed it, and would be the program that runs everywhere.
func (o *execOptions) split(args []string) (machines, argv []string, err error) {
	if o.all {
		if len(args) > 1 && args[0] != "--" && args[1] == "--" {
			return nil, nil, usage("the command stands behind --: tucdesk exec --all -- uptime", "--all is every machine, and %q would be the program to run there", args[0])
		}
		return nil, AfterDashes(args), nil
	}
	args = AfterDashes(args)
	if len(args) == 0 {
		return nil, nil, nil
	}
	machines, argv = append([]string{args[0]}, o.on...), args[1:]
	if len(argv) > 1 && argv[0] != "--" && argv[1] == "--" && (len(o.on) > 0 || strings.ContainsAny(args[0], ",=")) {
		return nil, nil, usage("the command stands behind --: tucdesk exec "+args[0]+" -- uptime", "%q are the machines, and %q would be the program to run there", strings.Join(machines, " "), argv[0])
	}
	return machines, AfterDashes(argv), nil
}

// single runs it on one machine, as if it were here.
func (o *execOptions) single(ctx context.Context, tio *cli.IO, t fleet.Target, argv []string) error {
	if t.User != "" {
		o.user = t.User
	}
	p, err := o.params(argv)
	if err != nil {
		return err
	}
	p.TTY = o.tty > 0 && !o.noTTY
	w := o.want(t.Name, wire.Exec, p)
	if o.persist > 0 && !p.TTY {
		if err := o.throughMaster(ctx, tio, w); !master.IsNone(err) {
			return err
		}
	}
	return o.runSession(ctx, tio, w)
}
