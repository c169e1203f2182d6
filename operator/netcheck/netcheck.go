// Package netcheck finds out what the network between this machine and the team's
// relays and server lets through: every relay by every transport, and where one
// does not work, the leg that is blocked; the addresses that relays see, and what
// a NAT does; the server and the clock. Its verb is netcheck.
package netcheck

import (
	"context"
	"encoding/json"
	"flag"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/probe"
	"github.com/tucdesk/tucdesk/internal/proxies"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/verb"
)

// Times; our choice.
const (
	wayWithin = 6 * time.Second  // one way to one relay
	least     = 10 * time.Second // between two checks: each takes a place at every relay
)

type options struct {
	verb.Options
	every time.Duration
}

// Command is the verb netcheck.
func Command() *cli.Command {
	var o options
	return &cli.Command{
		Use: "netcheck", Short: "Show which relays and transports work from here, and which leg is blocked",
		Long: "Tries every relay of the team by UDP, TCP, TLS, DTLS and WebSocket, with a credential that is good for nothing\n" +
			"else, and says how long each takes or where it ends: at the proxy, the connection, the handshake, the upgrade or\n" +
			"the relay. Needs no machine of the team.\n\n" +
			"Exit status: 0 when some way to some relay works, 255 when none does or the server does not answer.",
		Example: "tucdesk netcheck\ntucdesk netcheck --json\ntucdesk netcheck --every 30s --json >> netcheck.ndjson",
		Flags: func(f *flag.FlagSet) {
			o.JSONFlag(f)
			f.DurationVar(&o.every, "every", 0, "check again after this `time`, until Ctrl-C; with --json one value per line")
		},
		Run: func(ctx context.Context, io *cli.IO, _ []string) error {
			if o.every != 0 && o.every < least {
				return &cli.Error{Err: refusal.New(refusal.BadArgument, "--every is at least %s", least), Exit: cli.ExitUsage}
			}
			return o.Offline(io, func(a *account.Account) error { return o.run(ctx, io, a) })
		},
	}
}

func (o *options) run(ctx context.Context, io *cli.IO, a *account.Account) error {
	for {
		r, err := check(ctx, a)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if shown := o.show(io, r); shown != nil {
			return shown
		}
		if o.every == 0 {
			return err
		}
		t := time.NewTimer(o.every)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
	}
}

func (o *options) show(io *cli.IO, r report) error {
	switch {
	case o.JSON && o.every > 0:
		return json.NewEncoder(terminal.JSON(io.Out)).Encode(r)
	case o.JSON:
		return io.PrintJSON(r)
	}
	return r.print(io)
}

// check asks server and relays. The report holds what was found out, also with an
// error.
func check(ctx context.Context, a *account.Account) (report, error) {
	r := newReport(time.Now())
	r.Server.URL = a.Member.URL
	r.throughProxies(proxies.Environment())
	err := r.askServer(ctx, a)
	if err != nil {
		r.Server.Error = err.Error()
		return r, err
	}
	reply, err := a.Server.CheckRelays(ctx, a.Credentials)
	if err != nil {
		r.Server.Error = err.Error()
		return r, err
	}
	p, err := probe.NewProber()
	if err != nil {
		return r, err
	}
	defer p.Close()
	r.tryRelays(ctx, p, reply.Relay)
	if !r.works() {
		return r, &cli.Error{Err: refusal.New(refusal.RelayFailed, "no way to any relay works from here"), Exit: cli.ExitTransport,
			Hints: []string{"let one of them through: UDP is best, WebSocket passes where only HTTPS does"}}
	}
	return r, nil
}

// askServer finds out whether the server answers, how wrong the clock is, and logs
// in where it has to.
func (r *report) askServer(ctx context.Context, a *account.Account) error {
	server, here, err := a.Server.Clock(ctx)
	if err != nil {
		return err
	}
	began := time.Now() // this call has no handshakes in front: it is the round trip
	if err := a.Server.Health(ctx); err != nil {
		return err
	}
	r.Server.Reachable, r.Server.RTTMillis = true, millis(time.Since(began))
	r.Server.skew(server, here)
	if err := a.SignIn(ctx); err != nil {
		return err
	}
	if a.State == nil {
		return a.Login(ctx)
	}
	return nil
}
