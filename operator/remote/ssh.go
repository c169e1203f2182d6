package remote

import (
	"context"
	"flag"
	"os"
	"path"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/fleet"
	"github.com/tucdesk/tucdesk/operator/screen"
	"github.com/tucdesk/tucdesk/operator/verb"
)

// AfterDashes are the words behind "--", or all of them when there is none in front.
func AfterDashes(args []string) []string {
	if len(args) > 0 && args[0] == "--" {
		return args[1:]
	}
	return args
}

// ToArgv are words as a request carries them.
func ToArgv(args []string) []wire.Bytes {
	argv := make([]wire.Bytes, len(args))
	for i, a := range args {
		argv[i] = wire.Bytes(a)
	}
	return argv
}

// The flag of every verb that opens sessions.
const (
	noMapFlag = "no-port-mapping"
	noMapHelp = "never ask the router to forward a port to the session"
)

// sessionOptions are the flags of ssh and exec.
type sessionOptions struct {
	verb.Options
	user    string
	reason  string
	cwd     string
	env     verb.ListFlag
	tty     count
	noTTY   bool
	noWait  bool
	noMap   bool
	talk    bool
	predict screen.Mode
}

func (o *sessionOptions) sessionFlags(f *flag.FlagSet) {
	o.Flags(f)
	f.StringVar(&o.user, "user", "", "login `user` at the target (default: the agent's own user)")
	f.StringVar(&o.user, "l", "", "")
	f.StringVar(&o.reason, "reason", "", "`text` that an approver sees and the log keeps")
	f.Var(&o.env, "env", "`NAME=VALUE` to add to the environment, where the policy lets it; may be given again")
	f.Var(&o.tty, "tty", "run on a pseudo-terminal")
	f.Var(&o.tty, "t", "")
	f.BoolVar(&o.noTTY, "no-tty", false, "run without a pseudo-terminal, also with -t")
	f.BoolVar(&o.noTTY, "T", false, "")
	f.BoolVar(&o.talk, "verbose", false, "say which way the session goes when that changes, and at the end how long it took to open")
	f.BoolVar(&o.talk, "v", false, "")
	f.Var(&o.predict, "predict", "show keys before their echo: `when` is adaptive (on long paths), always or never")
	f.BoolVar(&o.noMap, noMapFlag, false, noMapHelp)
	f.BoolVar(&o.noWait, "nowait", false, "when an approval is missing, withdraw the request and exit 252 rather than wait")
}

func (o *sessionOptions) params(argv []string) (wire.Params, error) {
	cwd := o.cwd
	if strings.HasPrefix(cwd, "/") {
		cwd = path.Clean(cwd) // policies take one name for a folder
	}
	p := wire.Params{User: o.user, Argv: ToArgv(argv), Cwd: wire.Bytes(cwd), Env: []wire.EnvVar{}}
	for _, e := range o.env {
		name, value, ok := strings.Cut(e, "=")
		if !ok || name == "" {
			return p, &cli.Error{Err: refusal.New(refusal.EnvNotAllowed, "%q has no form NAME=VALUE", e), Exit: cli.ExitUsage}
		}
		p.Env = append(p.Env, wire.EnvVar{Name: name, Value: wire.Bytes(value)})
	}
	return p, nil
}

// SSHCommand is the verb ssh.
func SSHCommand() *cli.Command {
	var o sshOptions
	return &cli.Command{
		Use: "ssh [USER@]HOST [COMMAND...]", Short: "Open a shell on a machine",
		Long: "Opens a login shell on a pseudo-terminal. With COMMAND, the words are joined by spaces and run by the user's\n" +
			"shell, as ssh does it; tucdesk exec runs exact arguments without a shell. Ends with the remote exit status.\n" +
			"The letters are OpenSSH's, before HOST and right behind it. HOST may end in \".tucdesk\".\n\n" +
			"At the beginning of a line, ~. ends the session, ~^Z suspends it, ~# lists forwarded connections, ~s says which\n" +
			"way it goes, ~? lists the escapes and ~~ sends a tilde. A session outlives its network: it waits for a new way\n" +
			"for as long as the policy lets it.\n\n" +
			"-L, -R and -D need a session of their own, of the action forward; it is opened again when it ends. A shell that is\n" +
			"left waits for the connections that are still open. Listeners are on loopback unless told.\n\n" +
			"-o takes DynamicForward, EscapeChar, ExitOnForwardFailure, ForkAfterAuthentication, GatewayPorts, LocalForward,\n" +
			"ProxyJump, RemoteCommand, RemoteForward, RequestTTY, SendEnv, SessionType, SetEnv, StdinNull,\n" +
			"StreamLocalBindUnlink and User. SendEnv leaves out what the policy does not allow, as sshd does. Options about\n" +
			"keys of hosts, ciphers, keep-alives and ControlMaster are taken and change nothing: the machine is always checked\n" +
			"by the team's roster. Any other is refused.",
		Example: "tucdesk ssh web\ntucdesk ssh deploy@web\ntucdesk ssh web 'tail -n 50 /var/log/syslog | grep error'\n" +
			"tucdesk ssh -fNL 8080:localhost:80 web\ntucdesk ssh -J bastion admin@10.0.0.7",
		MinArgs: 1, MaxArgs: -1, Again: func() bool { return true }, Flags: o.flags, Complete: o.CompleteHosts,
		Run: func(ctx context.Context, tio *cli.IO, args []string) error {
			return cli.About(fleet.ParseTarget(args[0]).Name, o.run(ctx, tio, args))
		},
	}
}

func (o *sshOptions) run(ctx context.Context, tio *cli.IO, args []string) error {
	if err := o.settle(); err != nil {
		return err
	}
	command := strings.Join(AfterDashes(args[1:]), " ")
	switch {
	case command == "":
		command = o.command
	case o.noCommand || o.stdio != "":
		return usage("", "-N and -W take no command")
	}
	if o.jump != "" {
		direct, err := o.knows(args[0])
		if err != nil || !direct {
			return o.throughJump(ctx, tio, args[0], command)
		}
		tio.Say("note: %s is a machine of the team and needs no -J", terminal.Escape(args[0]))
		if err := o.settleOurs(); err != nil {
			return err
		}
	}
	if o.background && !o.inBackground {
		return toBackground(ctx, tio, o.noCommand)
	}
	if o.noStdin || o.inBackground {
		null, err := os.Open(os.DevNull)
		if err != nil {
			return err
		}
		defer null.Close()
		tio = &cli.IO{In: null, Out: tio.Out, Err: tio.Err}
	}
	host := target(&o.user, args[0])
	if o.stdio != "" {
		return o.connectStdio(ctx, tio, host)
	}
	return o.open(ctx, tio, host, command)
}

func (o *sessionOptions) want(host string, action wire.Action, p wire.Params) want {
	return want{host: host, action: action, params: p, reason: o.reason, noWait: o.noWait, noMap: o.noMap, predict: o.predict}
}

// runSession runs what w asks for, with the usual escapes on a terminal.
func (o *sessionOptions) runSession(ctx context.Context, io *cli.IO, w want) error {
	return o.runAround(ctx, io, w, around{escape: '~'})
}

func (o *sessionOptions) runAround(ctx context.Context, io *cli.IO, w want, x around) error {
	return o.WithAccount(ctx, io, func(a *account.Account) error {
		conn, err := connect(ctx, a, io, w)
		if err != nil {
			return err
		}
		defer conn.Close()
		defer conn.list(a, w)()
		x.verbose = o.talk
		p, err := play(ctx, io, conn, w, x)
		if o.talk {
			conn.trail.note(conn.Path(), time.Now()) // of a session that was over at once
			io.Say("path %s; session after %s, first output after %s", &conn.trail, conn.setup.Round(time.Millisecond), p.firstOutput(conn.asked))
		}
		return err
	})
}

// termName is what the remote programs are told of this terminal.
func termName() string {
	if t := os.Getenv("TERM"); t != "" {
		return t
	}
	return "xterm-256color"
}
