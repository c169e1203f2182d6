package remote

import (
	"context"
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/sshfront"
	"github.com/tucdesk/tucdesk/operator/verb"
)

// ProxyCommand is the verb proxy.
func ProxyCommand() *cli.Command {
	var p proxy
	return &cli.Command{
		Use: "proxy HOST", Short: "Stand between OpenSSH and a machine (for ProxyCommand)",
		Long: "Speaks SSH with the ssh that has started it, on standard input and output, and opens a sealed session for\n" +
			"each program that ssh asks for. \"tucdesk ssh-config\" prints what makes ssh use it. HOST may end in \".tucdesk\".\n\n" +
			"The SSH user name is the login user at the machine; \"@agent\" is the user the agent runs as. ssh sends the name of the\n" +
			"local user unless told, and does not know the host key of this computer unless told: that block says both.",
		Example: "tucdesk ssh-config --install && ssh web.tucdesk\n" +
			"ssh -o ProxyCommand='tucdesk proxy %h' -o KnownHostsCommand=\"$(command -v tucdesk) ssh-config --known-hosts %H\" -l @agent web.tucdesk",
		MinArgs: 1, MaxArgs: 1, Complete: p.CompleteHosts,
		Flags: func(f *flag.FlagSet) {
			p.Options.Flags(f)
			f.StringVar(&p.reason, "reason", "", "`text` that an approver sees and the log keeps")
			f.BoolVar(&p.noMap, noMapFlag, false, noMapHelp)
			f.BoolVar(&p.noWait, "nowait", false, "when an approval is missing, withdraw the request rather than wait")
		},
		Run: func(ctx context.Context, tio *cli.IO, args []string) error {
			// Ctrl-C is for the ssh that it is typed at. The one that started us may be a
			// ControlMaster behind it, and our own end is that of its pipes.
			signal.Ignore(os.Interrupt, syscall.SIGHUP)
			p.host, p.io = strings.TrimSuffix(args[0], sshfront.Suffix), tio
			return p.run(ctx)
		},
	}
}

// proxy is one connection of OpenSSH's. What fails is told on the channel that it
// fails for: our own standard error goes nowhere behind a ControlMaster.
type proxy struct {
	verb.Options
	io     *cli.IO
	host   string
	reason string
	noWait bool
	noMap  bool
}

func (p *proxy) run(ctx context.Context) error {
	a, err := p.OpenAccount() // to read the policy, and to say early that there is no team
	if err != nil {
		return err
	}
	defer a.Close()
	hostKey, err := sshfront.HostKey(a.Home.Path(sshfront.HostKeyFile))
	if err != nil {
		return err
	}
	rules := a.Rules
	cfg := sshfront.Config{
		Key: hostKey, Host: p.host, Open: p.open, Passing: passing, Report: p.report, Talk: p.io.Err,
		Env: func(name string) bool { return rules != nil && rules.EnvAllowed(name) },
	}
	cfg.Other = func(machine string) sshfront.Config {
		other, there := cfg, *p
		other.Host, there.host = machine, machine
		other.Open, other.Report = there.open, there.report
		return other
	}
	err = sshfront.Serve(ctx, cfg, p.io.In, stdout{p.io.Out})
	if errors.Is(err, sshfront.ErrHandshake) {
		return &cli.Error{Err: err, Hints: []string{
			"where ssh says that it cannot verify the host key, ProxyCommand is not all that it has to be told; the rest is in the block of: tucdesk ssh-config --install",
			"where no ssh has started this: tucdesk ssh HOST"}}
	}
	return err
}

// report is cli.Report for what fails on this machine.
func (p *proxy) report(w io.Writer, err error) int { return cli.Report(w, cli.About(p.host, err)) }

// stdout is our standard output with the Close that a connection has.
type stdout struct{ io.Writer }

// Close closes the file underneath, where there is one.
func (s stdout) Close() error {
	if f, ok := s.Writer.(*os.File); ok {
		return f.Close()
	}
	return nil
}

// open opens one session with an account of its own: it keeps the session's place
// on the relay, and one channel's wait for an approval holds up no other.
func (p *proxy) open(ctx context.Context, ask sshfront.Ask, say io.Writer) (*sshfront.Session, error) {
	a, err := p.OpenAccount()
	if err != nil {
		return nil, err
	}
	s, err := p.openWith(ctx, a, ask, say)
	if err != nil {
		a.Close()
		return nil, err
	}
	return s, nil
}

func (p *proxy) openWith(ctx context.Context, a *account.Account, ask sshfront.Ask, say io.Writer) (*sshfront.Session, error) {
	if err := a.Begin(ctx); err != nil {
		return nil, err
	}
	w := want{host: p.host, action: ask.Action, params: ask.Params, reason: p.reason, noWait: p.noWait, noMap: p.noMap}
	tio := &cli.IO{In: p.io.In, Out: io.Discard, Err: say}
	conn, err := patiently(ctx, func() (*opened, error) { return connect(ctx, a, tio, w) })
	if err != nil {
		return nil, err
	}
	leave := conn.renew.keep(func(text string) { tio.Say("tucdesk: %s", terminal.Escape(text)) })
	hide := conn.list(a, w)
	// ssh's own keep-alives are answered on this machine, so nothing else would tell
	// a person why nothing comes.
	conn.followers.Go(func() { conn.tellLoss(ctx, w.host, aside(tio, w.params.TTY)) })
	return &sshfront.Session{Conn: conn.Conn, Close: func() {
		hide()
		leave()
		_ = conn.Close()
		a.Close()
	}}, nil
}

// aside prints lines for a person. One on the terminal of a program stays apart from
// the program's own line.
func aside(tio *cli.IO, onTerminal bool) func(format string, args ...any) {
	if !onTerminal {
		return tio.Say
	}
	return func(format string, args ...any) { tio.Say("\n"+format, args...) }
}

// How long a session may wait for its turn, and between two tries; our choice.
const (
	turnLimit = 20 * time.Second
	turnPause = 500 * time.Millisecond
)

// patiently tries again while a limit on new sessions stands in the way: ssh's
// callers, such as Ansible or git, open many at once and never try twice.
func patiently(ctx context.Context, open func() (*opened, error)) (*opened, error) {
	for end := time.Now().Add(turnLimit); ; {
		conn, err := open()
		if code := refusal.Of(err); code != refusal.RateLimited && code != refusal.TooMany || time.Now().After(end) {
			return conn, err
		}
		pause := time.NewTimer(turnPause + rand.N(turnPause))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil, ctx.Err()
		}
	}
}
