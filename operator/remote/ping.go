package remote

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/fleet"
	"github.com/tucdesk/tucdesk/operator/live"
	"github.com/tucdesk/tucdesk/operator/verb"
)

// Times of ping; our choice.
const (
	pingEvery = time.Second
	// pingWithin is how long one answer may take, where there is a way.
	pingWithin = 3 * time.Second
	// untilDirect is how long --until-direct waits unless --timeout says otherwise.
	untilDirect = 30 * time.Second
	// pingSamples bounds the round trips that the summary is made from: the last ones.
	pingSamples = 4096
)

type pinging struct {
	verb.Options
	count   int
	direct  bool
	noMap   bool
	timeout time.Duration
}

// PingCommand is the verb ping.
func PingCommand() *cli.Command {
	var o pinging
	return &cli.Command{
		Use: "ping HOST", Short: "Show which way leads to a machine, and how long it takes",
		Long: "Opens a session in which nothing can be run and prints one line per second: the kind of path, the relay or the\n" +
			"machine's address, and the round trip of one datagram to the process that serves the session there. Whoever may do anything on\n" +
			"HOST may ping it, without an approval; the audit log keeps it as it keeps every session. Without -c and --timeout\n" +
			"it runs until Ctrl-C: such a session lasts 10 minutes at most, then another takes its place.\n\n" +
			"Exit status: 0 when the machine answered, and with --until-direct when the path is direct; 1 when it is not direct\n" +
			"in time; 255 when nothing answered; others as for every verb.",
		Example: "tucdesk ping web\ntucdesk ping -c 3 --json web\ntucdesk ping --until-direct --timeout 10s web && tucdesk ssh web",
		MinArgs: 1, MaxArgs: 1, Complete: o.CompleteHosts,
		Flags: func(f *flag.FlagSet) {
			o.Flags(f)
			f.BoolVar(&o.JSON, "json", false, "print one JSON value per line, in a form that stays stable")
			f.BoolVar(&o.noMap, noMapFlag, false, noMapHelp)
			verb.CountVar(f, &o.count, "count", "end after this many `lines` (default: never)")
			verb.CountVar(f, &o.count, "c", "")
			f.BoolVar(&o.direct, "until-direct", false, "end as soon as the path is direct, by no relay")
			verb.SpanVar(f, &o.timeout, "timeout", "end after this `time` (default: never, with --until-direct 30s)")
		},
		Run: func(ctx context.Context, io *cli.IO, args []string) error {
			at := fleet.ParseTarget(args[0])
			if at.User != "" {
				return usage("tucdesk ping "+at.Name, "ping runs nothing, and as nobody: it takes no user")
			}
			if o.direct && o.timeout == 0 {
				o.timeout = untilDirect
			}
			return cli.About(at.Name, o.WithAccount(ctx, io, func(a *account.Account) error { return o.run(ctx, io, a, at.Name) }))
		},
	}
}

func (o *pinging) run(ctx context.Context, io *cli.IO, a *account.Account, host string) error {
	w := want{host: host, action: wire.Ping, params: wire.Params{Argv: []wire.Bytes{}, Env: []wire.EnvVar{}}, noWait: true, noMap: o.noMap}
	p := &pings{pinging: o, io: io, account: a, want: w, host: host}
	if err := p.open(ctx); err != nil {
		return err
	}
	defer func() { p.leave() }()
	p.setup, p.since = p.conn.setup, p.conn.since
	if o.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.timeout)
		defer cancel()
	}
	err := p.run(ctx)
	return errors.Join(p.summary(), err)
}

// pings is one run.
type pings struct {
	*pinging
	io      *cli.IO
	account *account.Account
	want    want
	host    string

	conn  *opened       // the present session
	leave func()        // ends it and what belongs to it
	heard bool          // it has answered
	past  int           // changes of the path in the sessions before it
	setup time.Duration // of the first session
	since time.Time     // when the first one stood

	sent, answered int
	trips          []time.Duration
	lastDirect     bool          // the last line was of an answer by a direct path
	becameDirect   time.Duration // after the session stood; 0 is never
}

// pingLine is one line of --json. The names stay.
type pingLine struct {
	Schema    int       `json:"schemaVersion"`
	Type      string    `json:"type"` // "reply"
	Host      string    `json:"host"`
	Seq       int       `json:"seq"`
	At        time.Time `json:"at"`
	Lost      bool      `json:"lost"` // there is no way
	Answered  bool      `json:"answered"`
	Direct    bool      `json:"direct"`
	Kind      string    `json:"kind"` // "direct", "relay-udp", …; "" while lost
	Name      string    `json:"name"` // of the relay, or the machine's address
	RTTMillis float64   `json:"rttMillis"`
}

// pingSummary is the last line of --json.
type pingSummary struct {
	Schema       int     `json:"schemaVersion"`
	Type         string  `json:"type"` // "summary"
	Host         string  `json:"host"`
	Sent         int     `json:"sent"`
	Answered     int     `json:"answered"`
	MinMillis    float64 `json:"rttMinMillis"`
	MedianMillis float64 `json:"rttMedianMillis"`
	MaxMillis    float64 `json:"rttMaxMillis"`
	Direct       bool    `json:"direct"`            // now
	DirectAfter  float64 `json:"directAfterMillis"` // the session stood; 0 is never
	Changes      int     `json:"pathChanges"`
	SetupMillis  float64 `json:"setupMillis"` // from the request to the session
}

// open begins a session. Nothing else that this run counts changes.
func (p *pings) open(ctx context.Context) error {
	conn, err := connect(ctx, p.account, p.io, p.want)
	if err != nil {
		return err
	}
	leave := conn.renew.keep(func(text string) { p.io.Say("warning: %s", text) })
	hide := conn.list(p.account, p.want)
	p.conn, p.heard = conn, false
	p.leave = sync.OnceFunc(func() {
		hide()
		leave()
		_ = conn.Close()
	})
	return nil
}

// goOn opens the next session where the last one has reached the age that a ping may
// have (protocol 2.7), or a rule's: who watches a path overnight must not lose it after
// minutes. One that never answered is not followed by another, so that a machine which
// ends each at once cannot keep us opening them.
func (p *pings) goOn(ctx context.Context) error {
	if err := p.conn.Err(); refusal.Of(err) != refusal.Expired || !p.heard {
		return &cli.Error{Err: err, Exit: cli.ExitTransport}
	}
	_, changes := p.conn.trail.present()
	p.leave()
	p.past += changes
	if err := p.open(ctx); err != nil {
		p.past -= changes // the summary counts them with the last session
		return err
	}
	p.settle(ctx)
	return nil
}

// run prints until it is time to end. Its error says what was not reached.
func (p *pings) run(ctx context.Context) error {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	p.settle(ctx)
	for {
		p.line(ctx)
		if p.over() {
			return p.verdict()
		}
		changed := p.conn.PathChanged()
		for wait := !p.isAtLast(); wait; {
			select {
			case <-tick.C:
				wait = false
			case <-changed:
				changed, wait = p.conn.PathChanged(), !p.isAtLast()
			case <-p.conn.Done():
				if err := p.goOn(ctx); ctx.Err() != nil {
					return p.verdict()
				} else if err != nil {
					return err
				}
				changed = p.conn.PathChanged()
			case <-ctx.Done():
				return p.verdict()
			}
		}
	}
}

// settle waits, for no longer than a line takes, until the session has said once
// which way it goes.
func (p *pings) settle(ctx context.Context) {
	changed := p.conn.PathChanged()
	if way := p.conn.Path(); way.Lost || way.Kind != "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, pingEvery)
	defer cancel()
	select {
	case <-changed:
	case <-ctx.Done():
	}
}

// isAtLast reports that what is waited for has come since the last line.
func (p *pings) isAtLast() bool {
	way := p.conn.Path()
	return p.direct && !way.Lost && way.Kind == "direct"
}

func (p *pings) over() bool {
	return p.count > 0 && p.sent >= p.count || p.direct && p.lastDirect
}

// verdict is the error of a run that has ended by itself or by Ctrl-C, which is
// the usual way to end it.
func (p *pings) verdict() error {
	switch {
	case p.answered == 0:
		return &cli.Error{Err: refusal.New(refusal.Unreachable, "%q does not answer", p.host), Hints: []string{"tucdesk netcheck"}, Exit: cli.ExitTransport}
	case p.direct && !p.lastDirect:
		return &cli.Error{Err: fmt.Errorf("the path to %q is not direct", p.host), Hints: []string{"tucdesk netcheck, here and on the other side's network"}, Exit: cli.ExitFailed}
	}
	return nil
}

// line asks once and says what came of it.
func (p *pings) line(ctx context.Context) {
	p.sent++
	trip, err := time.Duration(0), context.DeadlineExceeded
	if !p.conn.Path().Lost {
		trip, err = p.ask(ctx)
	}
	if err != nil && (ctx.Err() != nil || p.conn.Err() != nil) {
		p.sent--
		return // the time was up, ours or the session's: nothing was lost
	}
	way := p.conn.Path()
	l := pingLine{Schema: schemaVersion, Type: "reply", Host: p.host, Seq: p.sent, At: time.Now().UTC(), Lost: way.Lost, Answered: err == nil}
	if !way.Lost {
		l.Kind, l.Name, l.Direct = way.Kind, way.Name, way.Kind == "direct"
	}
	if p.conn.trail.note(way, time.Now()); l.Direct && p.becameDirect == 0 {
		now, _ := p.conn.trail.present()
		p.becameDirect = max(now.since.Sub(p.since), time.Millisecond)
	}
	if p.lastDirect = l.Direct && l.Answered; err == nil {
		p.answered++
		p.heard = true
		l.RTTMillis = live.Millis(trip)
		if p.trips = append(p.trips, trip); len(p.trips) > pingSamples {
			p.trips = p.trips[1:]
		}
	}
	if p.JSON {
		_ = json.NewEncoder(terminal.JSON(p.io.Out)).Encode(l)
		return
	}
	p.io.Print("%s", l.text(time.Since(way.Since)))
}

func (l pingLine) text(since time.Duration) string {
	switch {
	case l.Lost:
		return fmt.Sprintf("%s: no way for %s", terminal.Escape(l.Host), short(since))
	case !l.Answered:
		return fmt.Sprintf("%s: %s %s: no answer for %s", terminal.Escape(l.Host), l.Kind, terminal.Escape(l.Name), pingWithin)
	}
	return fmt.Sprintf("%s: %s %s %g ms", terminal.Escape(l.Host), l.Kind, terminal.Escape(l.Name), l.RTTMillis)
}

// ask measures one round trip of a datagram.
func (p *pings) ask(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, pingWithin)
	defer cancel()
	return p.conn.Ping(ctx)
}

// schemaVersion is that of our lines of JSON. A field may be added to it, none
// changes or goes.
const schemaVersion = 1

func (p *pings) summary() error {
	now, changes := p.conn.trail.present()
	changes += p.past
	s := pingSummary{
		Schema: schemaVersion, Type: "summary", Host: p.host, Sent: p.sent, Answered: p.answered, Direct: now.kind == "direct",
		DirectAfter: live.Millis(p.becameDirect), Changes: changes, SetupMillis: live.Millis(p.setup),
	}
	if n := len(p.trips); n > 0 {
		slices.Sort(p.trips)
		s.MinMillis, s.MedianMillis, s.MaxMillis = live.Millis(p.trips[0]), live.Millis(p.trips[n/2]), live.Millis(p.trips[n-1])
	}
	if p.JSON {
		return json.NewEncoder(terminal.JSON(p.io.Out)).Encode(s)
	}
	direct := "never direct"
	if p.becameDirect > 0 {
		direct = "direct " + short(p.becameDirect.Round(time.Millisecond)) + " after the session stood"
	}
	return p.io.Print("%s: %d of %d answered; %g/%g/%g ms least/median/most; %s; %s of path; session after %s",
		p.host, s.Answered, s.Sent, s.MinMillis, s.MedianMillis, s.MaxMillis, direct, cli.Count(changes, "change"), short(p.setup))
}
