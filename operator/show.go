package operator

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/live"
	"github.com/tucdesk/tucdesk/operator/verb"
)

// hostView is one line of ls.
type hostView struct {
	Name     string    `json:"name"`
	Tags     []string  `json:"tags"`
	Online   bool      `json:"online"`
	LastSeen time.Time `json:"lastSeen"`
	Platform string    `json:"platform"`
	Hostname string    `json:"hostname"`
	Version  string    `json:"version"`
	Key      key.ID    `json:"key"`
}

type listing struct {
	verb.Options
	quiet bool
}

func listCommand() *cli.Command {
	var o listing
	return &cli.Command{
		Use: "ls [TAG,...]", Short: "List the team's machines",
		Long:    "Lists the machines whose certificates this client has verified, all or those that carry every TAG.\nWhether a machine is online is the server's word; the name and tags are not.",
		Example: "tucdesk ls\ntucdesk ls prod,eu\ntucdesk ls -q prod\ntucdesk ls --json",
		MaxArgs: 1,
		Flags: func(f *flag.FlagSet) {
			o.JSONFlag(f)
			verb.QuietFlag(f, &o.quiet, "print the names alone, one per line")
		},
		Run: func(ctx context.Context, io *cli.IO, args []string) error {
			return o.WithAccount(ctx, io, func(a *account.Account) error { return o.run(ctx, io, a, verb.SplitList(strings.Join(args, ","))) })
		},
	}
}

func (o *listing) run(ctx context.Context, io *cli.IO, a *account.Account, tags []string) error {
	good, err := a.Machines(ctx, io)
	if err != nil {
		return err
	}
	if err := a.Gossip(ctx); err != nil {
		return err
	}
	hosts := viewHosts(good, tags)
	if name := misread(good, tags); name != "" && len(hosts) == 0 {
		io.Say("note: %s is a machine; what stands behind ls is a tag", name)
	}
	return o.print(io, hosts, tags)
}

// misread is the word among tags that is the name of a machine, "" if none is.
func misread(machines []account.Machine, tags []string) string {
	for _, m := range machines {
		if slices.Contains(tags, m.Cert.Name) {
			return m.Cert.Name
		}
	}
	return ""
}

// viewHosts are those machines that carry every tag.
func viewHosts(machines []account.Machine, tags []string) []hostView {
	hosts := []hostView{}
	for _, m := range machines {
		if !slices.ContainsFunc(tags, func(t string) bool { return !slices.Contains(m.Cert.Tags, t) }) {
			hosts = append(hosts, hostView{m.Cert.Name, verb.List(m.Cert.Tags), m.Info.Online, m.Info.LastSeen.Time(), m.Info.Platform, m.Info.Hostname, m.Info.Version, m.Cert.Agent.ID()})
		}
	}
	return hosts
}

func (o *listing) print(io *cli.IO, hosts []hostView, tags []string) error {
	switch {
	case o.JSON:
		return io.PrintJSON(hosts)
	case len(hosts) == 0 && len(tags) > 0:
		io.Say("no machines that carry %s", terminal.Escape(strings.Join(tags, ",")))
		return nil
	case len(hosts) == 0:
		io.Say("no machines yet; to add one:\n  tucdesk token create --quiet > token.txt    here; carry the file to the machine\n  tucdesk-agent join token.txt                there, then: tucdesk-agent run")
		return nil
	case o.quiet:
		for _, h := range hosts {
			io.Print("%s", h.Name)
		}
		return nil
	}
	return verb.Table(io, []any{"NAME", "STATE", "LAST SEEN", "TAGS", "SYSTEM"}, func(row func(...any)) {
		for _, h := range hosts {
			row(h.Name, onlineText(h.Online), cli.When(h.LastSeen), strings.Join(h.Tags, ","), h.Platform)
		}
	})
}

func onlineText(online bool) string {
	if online {
		return "online"
	}
	return "offline"
}

func statusCommand() *cli.Command {
	var o verb.Options
	var details bool
	return &cli.Command{
		Use: "status", Short: "Show who you are, your server and what expires when",
		Long: "Asks the server whether it answers. When it does not, the rest is shown as known here, and the exit status is 255.\n" +
			"With -d, also the sessions that you have open on this machine: which way each goes, how long a round trip takes,\n" +
			"how much it has carried and when the other end was last heard.",
		Example: "tucdesk status\ntucdesk status --json\ntucdesk status -d",
		Flags: func(f *flag.FlagSet) {
			o.JSONFlag(f)
			f.BoolVar(&details, "details", false, "also show the sessions that run on this machine")
			f.BoolVar(&details, "d", false, "")
		},
		Run: func(ctx context.Context, io *cli.IO, _ []string) error {
			return o.Offline(io, func(a *account.Account) error { return status(ctx, a, io, o.JSON, details) })
		},
	}
}

// schemaVersion is that of the JSON of status and audit verify. A field may be added
// to it, none changes or goes.
const schemaVersion = 1

// statusView is the answer of status.
type statusView struct {
	Schema int `json:"schemaVersion"`
	loggedIn
	Fingerprint   key.Hash  `json:"fingerprint"`
	RosterVersion uint64    `json:"rosterVersion"`
	RosterExpires time.Time `json:"rosterExpires"`
	Reachable     bool      `json:"reachable"`

	Sessions []live.Session `json:"sessions,omitzero"` // of this machine, with --details
}

func status(ctx context.Context, a *account.Account, io *cli.IO, asJSON, details bool) error {
	failed := a.Begin(ctx)
	if failed == nil {
		failed = a.Server.Health(ctx)
	}
	if failed != nil && (a.State == nil || refusal.Of(failed) != refusal.Unreachable) {
		return failed
	}
	me, err := identity(a)
	if err != nil {
		return err
	}
	v := statusView{
		Schema: schemaVersion, loggedIn: me, Fingerprint: a.Member.Fingerprint,
		RosterVersion: a.State.Version(), RosterExpires: a.State.ExpiresAt(), Reachable: failed == nil,
	}
	if details {
		list, err := live.List(ctx, a.Home.Dir)
		if err != nil {
			return err
		}
		v.Sessions = verb.List(list)
	}
	if asJSON {
		return errors.Join(io.PrintJSON(v), failed)
	}
	state := "reachable"
	if failed != nil {
		state = "not reachable"
	}
	io.Print("you       %s, role %s, key %s\nserver    %s, %s\nteam      %s\nroster    version %d, expires %s",
		v.Email, v.Role, v.Key.ShortCode(), v.Server, state, v.Fingerprint, v.RosterVersion, cli.When(v.RosterExpires))
	if details {
		return errors.Join(showSessions(io, v.Sessions, time.Now()), failed)
	}
	return failed
}

// showSessions prints what the processes of this machine have said of theirs.
func showSessions(io *cli.IO, list []live.Session, now time.Time) error {
	if len(list) == 0 {
		io.Say("no sessions on this machine")
		return nil
	}
	for _, s := range list {
		if s.Alarm {
			io.Say("warning: somebody sends forged datagrams to the session with %s, process %d: %d so far; none gets in, but look who can reach this machine's network", terminal.Escape(s.Host), s.PID, s.OpenFailed)
		}
	}
	return verb.Table(io, []any{"HOST", "ACTION", "PID", "SINCE", "PATH", "ROUND TRIP", "FOR", "IN", "OUT", "HEARD", "NOT OPENED"}, func(row func(...any)) {
		for _, s := range list {
			path, trip := s.Kind+" "+s.Name, fmt.Sprintf("%g ms", s.RTTMillis)
			if s.Lost {
				path, trip = "no way", "-"
			}
			row(s.Host, s.Action, s.PID, cli.When(s.Since), path, trip, ago(now, s.PathSince), s.BytesIn, s.BytesOut, ago(now, s.Heard), s.OpenFailed)
		}
	})
}

// ago is how long before now something was.
func ago(now, then time.Time) string {
	if then.IsZero() {
		return "never"
	}
	return now.Sub(then).Round(time.Second).String()
}
