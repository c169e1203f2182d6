package remote

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/verb"
)

// Our choices.
const (
	maxShellList  = 64 << 10 // bytes of one machine's list
	shellsAtATime = 8        // machines that are asked side by side
)

// keptShell is one shell on one machine; the JSON names stay.
type keptShell struct {
	Name     string     `json:"name"`
	Host     string     `json:"host"`
	User     string     `json:"user"`
	Since    time.Time  `json:"since"`
	Attached bool       `json:"attached"`
	Left     *time.Time `json:"left"`  // when its last session ended; null while one has it
	Until    *time.Time `json:"until"` // when it ends if nobody takes it, or at all; null is never
}

// shellReport is the answer of sessions ls as JSON.
type shellReport struct {
	Schema int         `json:"schemaVersion"`
	Shells []keptShell `json:"shells"`
}

// SessionsCommand is the noun sessions: shells that outlive the session they are
// used in.
func SessionsCommand() *cli.Command {
	return &cli.Command{
		Use: "sessions", Short: "Shells that go on without you: list, attach, end",
		Long: "tucdesk ssh --name NAME HOST starts a shell that runs on when its session ends, whatever ends that: ~., a closed lid,\n" +
			"a killed client. It ends by itself, when the policy's resume time (24 hours unless it says less) has passed without you,\n" +
			"when the agent there stops, and when your key is revoked. It is yours alone: of this operator key.",
		Example: "tucdesk ssh --name build web\ntucdesk sessions ls\ntucdesk attach build",
		Sub:     []*cli.Command{sessionsList(), AttachCommand(), sessionsKill()},
	}
}

// keptFlags are those that every verb of kept shells has.
func (o *sessionOptions) keptFlags(f *flag.FlagSet) {
	o.Flags(f)
	f.StringVar(&o.user, "user", "", "login `user` that the shell runs as (default: the agent's own user)")
	f.StringVar(&o.user, "l", "", "")
	f.StringVar(&o.reason, "reason", "", "`text` that an approver sees and the log keeps")
	f.BoolVar(&o.noMap, noMapFlag, false, noMapHelp)
	f.BoolVar(&o.noWait, "nowait", false, "when an approval is missing, withdraw the request and exit 252 rather than wait")
}

func sessionsList() *cli.Command {
	var o sessionOptions
	return &cli.Command{
		Use: "ls [[USER@]HOST]", Short: "List your kept shells",
		Long: "Asks HOST, or every machine on which this client has left a shell. Each answer is a session of its own, and\n" +
			"judged as a shell.",
		Example: "tucdesk sessions ls\ntucdesk sessions ls web\ntucdesk sessions ls --json deploy@web",
		MaxArgs: 1, Complete: o.CompleteHosts,
		Flags: func(f *flag.FlagSet) {
			o.keptFlags(f)
			f.BoolVar(&o.JSON, "json", false, cli.JSONUsage)
		},
		Run: func(ctx context.Context, tio *cli.IO, args []string) error {
			return o.WithAccount(ctx, tio, func(a *account.Account) error {
				places := shellsLeft(a.Home).places()
				if len(args) == 1 {
					places = []place{o.place(args[0])}
				}
				list, err := askAll(tio, places, func(p place) ([]keptShell, error) {
					shells, err := o.askOne(ctx, a, tio, p)
					if err == nil {
						shellsLeft(a.Home).are(p, shells)
					}
					return shells, err
				})
				return errors.Join(o.printShells(tio, list, err == nil), err)
			})
		},
	}
}

// place is where shells may be.
type place struct {
	Host string `json:"host"`
	User string `json:"user"` // "" is the agent's own
}

// String is the place as it is typed.
func (p place) String() string {
	if p.User == "" {
		return p.Host
	}
	return p.User + "@" + p.Host
}

func (o *sessionOptions) place(host string) place {
	return place{target(&o.user, host), o.user}
}

// askAll asks all places, some side by side. Which ones gave no answer is said, and the
// first of their errors is returned; the others' shells count.
func askAll(tio *cli.IO, places []place, ask func(place) ([]keptShell, error)) ([]keptShell, error) {
	lists, errs := make([][]keptShell, len(places)), make([]error, len(places))
	turns := make(chan struct{}, shellsAtATime)
	var all sync.WaitGroup
	for i, p := range places {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			lists[i], errs[i] = ask(p)
		})
	}
	all.Wait()
	var first error
	for i, p := range places {
		switch {
		case errs[i] == nil:
			continue
		case len(places) == 1:
			tio.Say("%s did not say which shells it keeps", p)
		default:
			tio.Say("%s did not say which shells it keeps: %s", p, terminal.Escape(errs[i].Error()))
		}
		if first == nil || errors.Is(errs[i], context.Canceled) { // Ctrl-C has a status of its own
			first = errs[i]
		}
	}
	return slices.Concat(lists...), first
}

func (o *sessionOptions) askOne(ctx context.Context, a *account.Account, tio *cli.IO, p place) ([]keptShell, error) {
	text, err := o.keepers(ctx, a, tio, p, wire.Keep{Do: wire.KeepList})
	if err != nil {
		return nil, cli.About(p.Host, err)
	}
	var list []keptShell
	if json.Unmarshal(text, &list) != nil {
		return nil, refusal.New(refusal.ProtocolError, "%q sent a list that cannot be read", p.Host)
	}
	for i := range list {
		list[i].Host = p.Host
	}
	return list, nil
}

// keepers opens a session for something about kept shells that runs nothing, and
// returns what the machine says.
func (o *sessionOptions) keepers(ctx context.Context, a *account.Account, tio *cli.IO, p place, keep wire.Keep) ([]byte, error) {
	params := wire.Params{User: p.User, Argv: []wire.Bytes{}, Env: []wire.EnvVar{}, Keep: &keep}
	conn, err := connect(ctx, a, tio, o.want(p.Host, wire.Shell, params))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ch, err := conn.OpenSession(ctx)
	if err != nil {
		return nil, err
	}
	defer ch.Close()
	if err := ch.Shell(ctx); err != nil {
		return nil, shellHint(err, p)
	}
	text, err := io.ReadAll(io.LimitReader(ch.Stdout(), maxShellList))
	if err != nil {
		return nil, err
	}
	exit, err := ch.Wait()
	return text, status(exit, err)
}

// shellHint says where to look for a shell that is not there.
func shellHint(err error, p place) error {
	if refusal.Of(err) != refusal.NotFound {
		return err
	}
	return &cli.Error{Err: err, Hints: []string{"tucdesk sessions ls " + p.String()}, Exit: cli.ExitFailed}
}

// printShells prints the answer. When it is not complete, because a machine gave none,
// nobody may read in it that there is no shell: a script gets no JSON then, and a
// person the rows that came.
func (o *sessionOptions) printShells(tio *cli.IO, list []keptShell, complete bool) error {
	switch {
	case o.JSON && complete:
		return tio.PrintJSON(shellReport{Schema: schemaVersion, Shells: verb.List(list)})
	case o.JSON || len(list) == 0 && !complete:
		return nil
	case len(list) == 0:
		tio.Say("no kept shells")
		return nil
	}
	return verb.Table(tio, []any{"NAME", "HOST", "USER", "SINCE", "STATE", "ENDS"}, func(row func(...any)) {
		for _, s := range list {
			state, until := "attached", "-"
			if !s.Attached && s.Left != nil {
				state = "left at " + cli.When(*s.Left)
			}
			if s.Until != nil {
				until = cli.When(*s.Until)
			}
			row(s.Name, s.Host, s.User, cli.When(s.Since), state, until)
		}
	})
}

// AttachCommand is the verb attach, also below sessions.
func AttachCommand() *cli.Command {
	var o sessionOptions
	return &cli.Command{
		Use: "attach NAME [[USER@]HOST]", Short: "Go back to a shell that you left",
		Long: "Joins this terminal to the kept shell NAME; whatever session has it is told and ends. HOST may be left out where\n" +
			"this client has left the shell itself. The newest megabyte of what it said is shown again, without what a\n" +
			"terminal would answer; programs that draw the whole screen draw it anew. ~. leaves the shell running. Standard\n" +
			"input has to be a terminal.",
		Example: "tucdesk attach build\ntucdesk attach build deploy@web\ntucdesk sessions attach build",
		MinArgs: 1, MaxArgs: 2, Complete: o.completeShells,
		Flags: func(f *flag.FlagSet) {
			o.keptFlags(f)
			f.BoolVar(&o.talk, "verbose", false, "say which way the session goes when that changes, and at the end how long it took to open")
			f.BoolVar(&o.talk, "v", false, "")
			f.Var(&o.predict, "predict", "show keys before their echo: `when` is adaptive (on long paths), always or never")
		},
		Run: func(ctx context.Context, tio *cli.IO, args []string) error {
			p, err := o.whereIs(args)
			if err != nil {
				return err
			}
			params := wire.Params{User: p.User, Argv: []wire.Bytes{}, Env: []wire.EnvVar{}, TTY: true, Keep: &wire.Keep{Do: wire.KeepAttach, Name: args[0]}}
			return cli.About(p.Host, o.runKept(ctx, tio, o.want(p.Host, wire.Shell, params), around{escape: '~'}))
		},
	}
}

func sessionsKill() *cli.Command {
	var o sessionOptions
	return &cli.Command{
		Use: "kill NAME [[USER@]HOST]", Short: "End a kept shell and everything it runs",
		Example: "tucdesk sessions kill build\ntucdesk sessions kill build deploy@web",
		MinArgs: 1, MaxArgs: 2, Complete: o.completeShells, Flags: o.keptFlags,
		Run: func(ctx context.Context, tio *cli.IO, args []string) error {
			p, err := o.whereIs(args)
			if err != nil {
				return err
			}
			return o.WithAccount(ctx, tio, func(a *account.Account) error {
				if _, err := o.keepers(ctx, a, tio, p, wire.Keep{Do: wire.KeepKill, Name: args[0]}); err != nil {
					return cli.About(p.Host, err)
				}
				shellsLeft(a.Home).gone(args[0], p)
				tio.Say("ended %s on %s", args[0], p.Host)
				return nil
			})
		},
	}
}

// keepAs makes the shell that p asks for a kept one.
func (o *sshOptions) keepAs(p *wire.Params) error {
	p.TTY, p.Keep = true, &wire.Keep{Do: wire.KeepOpen, Name: o.keep}
	switch {
	case !p.Keep.Valid():
		return badShellName(o.keep)
	case o.noTTY:
		return usage("", "--name keeps a shell on a terminal: it cannot be had with -T")
	case o.agent:
		return usage("", "--name with -A: the SSH agent would be gone with the session, and the shell is not")
	}
	return nil
}

// runKept joins this terminal to a kept shell. Where that was left, it says how to
// get it back. The newest client has the shell, so one without a terminal, in a timer's
// job say, is refused first: it would take the shell from the person at the keyboard,
// and hold it for ever.
func (o *sessionOptions) runKept(ctx context.Context, tio *cli.IO, w want, x around) error {
	if tio.In == nil || !terminal.IsTerminal(tio.In) {
		return usage("without one: tucdesk ssh HOST COMMAND, or tucdesk exec", "a kept shell wants a terminal, and standard input is none")
	}
	home, err := o.Home()
	if err != nil {
		return err
	}
	p, name := place{w.host, w.params.User}, w.params.Keep.Name
	begun, over, told := false, false, x.started
	x.started = func() {
		begun = true
		shellsLeft(home).here(name, p)
		if told != nil {
			told()
		}
	}
	x.ended = func() { over = true }
	err = o.runAround(ctx, tio, w, x)
	switch {
	case over, refusal.Of(err) == refusal.AgentStopped: // which keeps no shell
		shellsLeft(home).gone(name, p)
	case begun && refusal.Of(err) != refusal.TakenOver:
		tio.Say("the shell runs on; get it back with: tucdesk attach %s %s", name, p)
	}
	return shellHint(err, p)
}

// whereIs finds the machine of NAME [HOST].
func (o *sessionOptions) whereIs(args []string) (place, error) {
	if k := (wire.Keep{Do: wire.KeepAttach, Name: args[0]}); !k.Valid() {
		return place{}, badShellName(args[0])
	}
	if len(args) == 2 {
		return o.place(args[1]), nil
	}
	home, err := o.Home()
	if err != nil {
		return place{}, err
	}
	found := shellsLeft(home).of(args[0])
	switch len(found) {
	case 1:
		if o.user != "" { // -l counts
			found[0].User = o.user
		}
		return found[0], nil
	case 0:
		a, err := o.OpenAccount()
		if err != nil { // without a team there are no machines to name
			return place{}, err
		}
		a.Close()
		return place{}, &cli.Error{Err: refusal.New(refusal.NotFound, "this client has left no shell %q; say on which machine it is", args[0]), Hints: []string{"the machine comes behind the name: tucdesk attach " + args[0] + " HOST, or sessions kill " + args[0] + " HOST", "which there are on a machine: tucdesk sessions ls HOST"}, Exit: cli.ExitUsage}
	}
	hosts := make([]string, len(found))
	for i, p := range found {
		hosts[i] = p.String()
	}
	return place{}, &cli.Error{Err: refusal.New(refusal.BadArgument, "there is a shell %q on %s; say which one", args[0], strings.Join(hosts, ", ")), Hints: []string{"the machine comes behind the name: tucdesk attach " + args[0] + " HOST, or sessions kill " + args[0] + " HOST", "which there are on a machine: tucdesk sessions ls HOST"}, Exit: cli.ExitUsage}
}

func badShellName(name string) error {
	return &cli.Error{Err: refusal.New(refusal.BadArgument, "%q is no name of a shell: at most 32 letters, digits, dots, dashes and underscores", name), Exit: cli.ExitUsage}
}

func (o *sessionOptions) completeShells(_ context.Context, typed string) (names []string) {
	home, err := o.Home()
	if err != nil {
		return nil
	}
	for _, s := range shellsLeft(home).read() {
		if strings.HasPrefix(s.Name, typed) && !slices.Contains(names, s.Name) {
			names = append(names, s.Name)
		}
	}
	return names
}
