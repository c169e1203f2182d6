package remote

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/operator/fleet"
	"github.com/tucdesk/tucdesk/operator/forward"
	"github.com/tucdesk/tucdesk/operator/live"
	"github.com/tucdesk/tucdesk/operator/sshfront"
	"github.com/tucdesk/tucdesk/operator/verb"
)

// forwardFlags are those by which forwards are named.
type forwardFlags struct {
	local, remote, dynamic verb.ListFlag
	gateway                bool
}

func (o *forwardFlags) flags(f *flag.FlagSet) {
	f.Var(&o.local, "local", "listen here and connect there: `[BIND:]PORT:HOST:PORT`, or a path of a socket in place of either end; may be given again")
	f.Var(&o.local, "L", "")
	f.Var(&o.remote, "remote", "listen there and connect here, likewise; without a target the machine's programs say by SOCKS where to; `SPEC`")
	f.Var(&o.remote, "R", "")
	f.Var(&o.dynamic, "dynamic", "listen here for SOCKS 4, 4a and 5 clients, which say where to connect there: `[BIND:]PORT`")
	f.Var(&o.dynamic, "D", "")
	f.BoolVar(&o.gateway, "gateway-ports", false, "listen here at all addresses where BIND is not said (default: loopback alone)")
	f.BoolVar(&o.gateway, "g", false, "")
}

// specs reads what was given, in the order L, R, D.
func (o *forwardFlags) specs() ([]forward.Spec, error) {
	var list []forward.Spec
	for _, given := range []struct {
		way   forward.Way
		texts verb.ListFlag
	}{{forward.Local, o.local}, {forward.Remote, o.remote}, {forward.Dynamic, o.dynamic}} {
		for _, text := range given.texts {
			s, err := forward.Parse(given.way, text)
			if err != nil {
				return nil, &cli.Error{Err: err, Exit: cli.ExitUsage}
			}
			list = append(list, s)
		}
	}
	return list, nil
}

// forwarding is the verb forward.
type forwarding struct {
	verb.Options
	forwardFlags
	user, reason  string
	noWait, noMap bool

	io   *cli.IO
	host string
	mu   sync.Mutex // serialises lines

	// What is listened at here is held back until there is a session: who reads
	// "listening" may connect, and a denial would come after it.
	stood bool            // guarded by mu
	held  []forward.Event // guarded by mu
}

// maxSpecs bounds the forwards on one command line; our choice.
const maxSpecs = 64

// ForwardCommand is the verb forward.
func ForwardCommand() *cli.Command {
	var o forwarding
	return &cli.Command{
		Use: "forward [USER@]HOST [SPEC...]", Short: "Keep ports and sockets forwarded to or from a machine",
		Long: "Forwards connections until Ctrl-C and prints what happens: where it listens, once it has a session, each connection\n" +
			"with its bytes, which way the session goes. A SPEC is what ssh takes behind -L. The policy is asked for the target of\n" +
			"each connection when it comes; one that it does not let through is refused then, and told.\n\n" +
			"When the session ends, because the policy bounds it or the agent was restarted, it is opened again, unless that is\n" +
			"refused; connections that were open are cut, new ones wait for it. There is no forward of UDP.\n\n" +
			"Listeners are on loopback unless BIND names an address, or * for all of them. Every user of this computer can\n" +
			"connect to a port on loopback; a socket, as /run/user/1000/db.sock, is for you alone.",
		Example: "tucdesk forward web 8080:localhost:80\ntucdesk forward db /tmp/db.sock:/run/postgresql/.s.PGSQL.5432\n" +
			"tucdesk forward web -D 1080 -R 9000:localhost:3000 --json",
		MinArgs: 1, MaxArgs: 1 + maxSpecs, Complete: o.CompleteHosts,
		Flags: func(f *flag.FlagSet) {
			o.Options.Flags(f)
			f.BoolVar(&o.JSON, "json", false, "print one JSON value per line, in a form that stays stable")
			o.forwardFlags.flags(f)
			f.StringVar(&o.user, "user", "", "login `user` at the target (default: the agent's own user)")
			f.StringVar(&o.user, "l", "", "")
			f.StringVar(&o.reason, "reason", "", "`text` that an approver sees and the log keeps")
			f.BoolVar(&o.noMap, noMapFlag, false, noMapHelp)
			f.BoolVar(&o.noWait, "nowait", false, "when an approval is missing, withdraw the request and exit 252 rather than wait")
		},
		Run: func(ctx context.Context, tio *cli.IO, args []string) error {
			o.local = append(o.local, args[1:]...)
			o.io, o.host = tio, target(&o.user, args[0])
			return cli.About(o.host, o.run(ctx))
		},
	}
}

// notListened adds to err what to do where another program has the port, or something
// the name of the socket.
func notListened(s forward.Spec, err error) error {
	if s.Listen.Socket != "" && (errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, fs.ErrExist)) {
		return &cli.Error{Err: err, Hints: []string{"where no program listens there any more: rm " + terminal.Quote([]byte(s.Listen.Socket)), "tucdesk ssh does that by itself with: -o StreamLocalBindUnlink=yes"}}
	}
	taken := s.Listen.Port
	if taken == 0 || !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	if s.Listen.Port++; s.Listen.Port == 0 { // behind the last port
		s.Listen.Port = taken - 1
	}
	return &cli.Error{Err: err, Hints: []string{fmt.Sprintf("port %d is in use here; choose another, as %s", taken, strings.TrimPrefix(s.String(), "-"+string(s.Way)+" "))}}
}

// target is the machine's name of "[user@]host[.tucdesk]"; a user is put where user
// points, unless -l has said one, which counts, as with ssh.
func target(user *string, arg string) string {
	at := fleet.ParseTarget(arg)
	if *user == "" {
		*user = at.User
	}
	if *user == sshfront.SelfUser {
		*user = ""
	}
	return at.Name
}

func (o *forwarding) run(ctx context.Context) error {
	specs, err := o.specs()
	if err != nil {
		return err
	}
	if len(specs) == 0 {
		return &cli.Error{Err: refusal.New(refusal.BadArgument, "nothing to forward"), Hints: []string{"tucdesk forward HOST 8080:localhost:80", "tucdesk forward --help"}, Exit: cli.ExitUsage}
	}
	set := forward.New(forward.Config{Gateway: o.gateway, Report: o.report})
	defer set.Close()
	for _, s := range specs {
		if err := set.Add(ctx, s); err != nil {
			return notListened(s, err)
		}
	}
	w := forwardWant(o.host, o.user)
	w.reason, w.noWait, w.noMap = o.reason, o.noWait, o.noMap
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t := &tunnel{options: &o.Options, io: o.io, want: w, set: set, path: o.way, lost: o.retry}
	first := true
	t.stands = func(conn *opened, bad error) {
		o.line(forwardLine{Type: "session", Session: conn.id.String(), Rule: conn.Ready().Rule}, "session %s to %s; the policy is asked for the target of each connection", conn.id, terminal.Escape(o.host))
		o.release()
		if first && bad != nil { // a typing error, or a refusal: nobody would see it later
			cancel(bad)
		}
		first = false
	}
	err = t.run(ctx)
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	set.Close()
	if o.everStood() || o.JSON {
		o.line(forwardLine{Type: "end"}, "ended")
	}
	return err
}

// everStood reports whether there has been a session: what never began does not end.
func (o *forwarding) everStood() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.stood
}

// forwardLine is one line of --json. The names stay; empty fields are left out.
type forwardLine struct {
	Schema     int       `json:"schemaVersion"`
	Type       string    `json:"type"` // "listening", "session", "path", "open", "close", "refused", "lost", "end"
	Host       string    `json:"host"`
	At         time.Time `json:"at"`
	Forward    string    `json:"forward,omitempty"` // as ssh writes it, "-L 8080:localhost:80"
	Address    string    `json:"address,omitempty"` // that is listened at
	Session    string    `json:"session,omitempty"`
	Rule       string    `json:"rule,omitempty"` // of the policy, that allowed the session
	Connection uint64    `json:"connection,omitempty"`
	From       string    `json:"from,omitempty"`
	To         string    `json:"to,omitempty"`
	Sent       int64     `json:"bytesSent,omitempty"` // by who connected
	Received   int64     `json:"bytesReceived,omitempty"`
	Seconds    float64   `json:"seconds,omitempty"`
	Kind       string    `json:"kind,omitempty"` // of the path; none while it is lost
	Name       string    `json:"name,omitempty"`
	RTTMillis  float64   `json:"rttMillis,omitempty"`
	Error      string    `json:"error,omitempty"`
	Code       string    `json:"code,omitempty"`
}

// line prints an event, as JSON or as text that is escaped already.
func (o *forwarding) line(l forwardLine, format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.JSON {
		o.io.Print(format, args...)
		return
	}
	l.Schema, l.Host, l.At = 1, o.host, time.Now().UTC()
	enc := json.NewEncoder(terminal.JSON(o.io.Out))
	enc.SetEscapeHTML(false)
	_ = enc.Encode(l)
}

// hold keeps e back while no session has stood yet.
func (o *forwarding) hold(e forward.Event) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.stood && e.Type == forward.Listening {
		o.held = append(o.held, e)
		return true
	}
	return false
}

// release tells what was held back, once a session stands.
func (o *forwarding) release() {
	o.mu.Lock()
	held := o.held
	o.stood, o.held = true, nil
	o.mu.Unlock()
	for _, e := range held {
		o.report(e)
	}
}

func (o *forwarding) report(e forward.Event) {
	if o.hold(e) {
		return
	}
	l := forwardLine{Type: string(e.Type), Forward: e.Spec.String(), Address: e.At, Connection: e.Conn.ID, From: e.Conn.From, To: e.Conn.To, Sent: e.Taken, Received: e.Given}
	if e.Err != nil {
		l.Error, l.Code = e.Err.Error(), string(refusal.Of(e.Err))
	}
	if e.Type == forward.Closed {
		l.Seconds = time.Since(e.Conn.Since).Seconds()
	}
	o.line(l, "%s", eventText(e, o.host))
}

// eventText is an event for people.
func eventText(e forward.Event, host string) string {
	where, to := "here", ", for SOCKS clients"
	if e.Spec.Way == forward.Remote {
		where = "at " + host
	}
	if e.Spec.To != (forward.Address{}) {
		to = ", to " + e.Spec.To.String()
	}
	text := ""
	switch e.Type {
	case forward.Listening:
		text = fmt.Sprintf("listening on %s %s%s", e.At, where, to)
	case forward.Opened:
		text = fmt.Sprintf("#%d from %s to %s", e.Conn.ID, e.Conn.From, e.Conn.To)
	case forward.Closed:
		text = fmt.Sprintf("#%d closed after %s, %s sent, %d received", e.Conn.ID, short(time.Since(e.Conn.Since)), cli.Count(e.Taken, "byte"), e.Given)
	case forward.Refused:
		text = fmt.Sprintf("refused, from %s to %s: %v", e.Conn.From, e.Conn.To, e.Err)
		if e.At != "" {
			text = fmt.Sprintf("refused, to listen on %s %s: %v", e.At, where, e.Err)
		}
	}
	return terminal.Escape(text)
}

func (o *forwarding) way(p session.PathState) {
	o.line(forwardLine{Type: "path", Kind: p.Kind, Name: p.Name, RTTMillis: live.Millis(p.RTT)}, "%s", wayText(p, o.host))
}

func (o *forwarding) retry(err error, again time.Duration) {
	o.line(forwardLine{Type: "lost", Error: err.Error(), Code: string(refusal.Of(err))}, "session lost: %s; next try in %s", terminal.Escape(err.Error()), again)
}
