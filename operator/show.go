package operator

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
)

// teamView is the answer of team show.
type teamView struct {
	Team        string       `json:"team"`
	Fingerprint key.Hash     `json:"fingerprint"`
	TeamString  string       `json:"teamString"`
	Version     uint64       `json:"rosterVersion"`
	Hash        key.Hash     `json:"rosterHash"`
	Expires     time.Time    `json:"expires"`
	Owners      int          `json:"owners"`
	Threshold   int          `json:"threshold"`
	MinVersion  string       `json:"minVersion"` // "" is any
	PolicyHash  key.Hash     `json:"policyHash"`
	Servers     []string     `json:"servers"`
	Operators   []memberView `json:"operators"`
	Revoked     []key.ID     `json:"revoked"`
}

type memberView struct {
	Email   string `json:"email"`
	Person  string `json:"person"`
	Role    string `json:"role"`
	Key     key.ID `json:"key"`
	Code    string `json:"shortCode"`
	Revoked bool   `json:"revoked"`
}

func (a *account) view() (teamView, error) {
	r := a.state.Roster()
	text, err := a.member.teamString()
	v := teamView{
		Team: a.member.Team.String(), Fingerprint: a.member.Fingerprint, TeamString: text,
		Version: r.Version, Hash: a.state.Hash(), Expires: r.ExpiresAt.Time(),
		Owners: len(r.Owners), Threshold: r.Threshold, MinVersion: r.MinVersion, PolicyHash: r.PolicyHash,
		Servers: []string{}, Operators: []memberView{}, Revoked: list(r.Revoked),
	}
	for _, s := range r.Servers {
		v.Servers = append(v.Servers, s.URL)
	}
	for _, o := range r.Operators {
		id := o.Key.ID()
		v.Operators = append(v.Operators, memberView{o.Email, o.Person, o.Role.String(), id, id.ShortCode(), slices.Contains(r.Revoked, id)})
	}
	return v, err
}

func (a *account) showTeam(io *cli.IO, asJSON bool) error {
	v, err := a.view()
	if err != nil {
		return err
	}
	if asJSON {
		return io.PrintJSON(v)
	}
	fmt.Fprintf(io.Out, "fingerprint  %s\nroster       version %d, expires %s\nowners       %d, of which %d must sign\nprograms     %s\nservers      %s\nteam string  %s\n\n",
		v.Fingerprint, v.Version, v.Expires.Format(time.RFC3339), v.Owners, v.Threshold, atLeast(v.MinVersion), terminal.Escape(strings.Join(v.Servers, ", ")), v.TeamString)
	return table(io, []any{"EMAIL", "ROLE", "KEY"}, func(row func(...any)) {
		for _, m := range v.Operators {
			role := m.Role
			if m.Revoked {
				role = "revoked"
			}
			row(m.Email, role, m.Code)
		}
	})
}

func atLeast(version string) string {
	if version == "" {
		return "any version"
	}
	return "version " + version + " or newer"
}

// shown is text that was escaped already.
type shown string

// table prints aligned columns; every cell that is not shown is escaped, since
// names and texts come from other machines.
func table(io *cli.IO, head []any, fill func(row func(...any))) error {
	w := tabwriter.NewWriter(io.Out, 0, 8, 2, ' ', 0)
	row := func(cells ...any) {
		texts := make([]string, len(cells))
		for i, c := range cells {
			if s, ok := c.(shown); ok {
				texts[i] = string(s)
			} else {
				texts[i] = terminal.Escape(fmt.Sprint(c))
			}
		}
		fmt.Fprintln(w, strings.TrimRight(strings.Join(texts, "\t"), "\t"))
	}
	row(head...)
	fill(row)
	return w.Flush()
}

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
	options
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
			o.jsonFlag(f)
			quietFlag(f, &o.quiet, "print the names alone, one per line")
		},
		Run: func(ctx context.Context, io *cli.IO, args []string) error {
			return o.withAccount(ctx, io, func(a *account) error { return o.run(ctx, io, a, splitList(strings.Join(args, ","))) })
		},
	}
}

func (o *listing) run(ctx context.Context, io *cli.IO, a *account, tags []string) error {
	infos, err := a.fetchAgents(ctx)
	if err != nil {
		return err
	}
	if err := a.gossip(ctx); err != nil {
		return err
	}
	good, bad := a.verified(infos, time.Now())
	if bad > 0 {
		io.Say("warning: %d machines are left out, their certificates do not hold", bad)
	}
	return o.print(io, viewHosts(good, tags), tags)
}

// viewHosts are those machines that carry every tag.
func viewHosts(machines []machine, tags []string) []hostView {
	hosts := []hostView{}
	for _, m := range machines {
		if !slices.ContainsFunc(tags, func(t string) bool { return !slices.Contains(m.cert.Tags, t) }) {
			hosts = append(hosts, hostView{m.cert.Name, list(m.cert.Tags), m.info.Online, m.info.LastSeen.Time(), m.info.Platform, m.info.Hostname, m.info.Version, m.cert.Agent.ID()})
		}
	}
	return hosts
}

func (o *listing) print(io *cli.IO, hosts []hostView, tags []string) error {
	switch {
	case o.json:
		return io.PrintJSON(hosts)
	case len(hosts) == 0 && len(tags) > 0:
		io.Say("no machines that carry %s", terminal.Escape(strings.Join(tags, ",")))
		return nil
	case len(hosts) == 0:
		io.Say("no machines; add one with: tucdesk token create")
		return nil
	case o.quiet:
		for _, h := range hosts {
			fmt.Fprintln(io.Out, terminal.Escape(h.Name))
		}
		return nil
	}
	return table(io, []any{"NAME", "STATE", "LAST SEEN", "TAGS", "SYSTEM"}, func(row func(...any)) {
		for _, h := range hosts {
			row(h.Name, onlineText(h.Online), h.LastSeen.Format(time.RFC3339), strings.Join(h.Tags, ","), h.Platform)
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
	var o options
	return &cli.Command{
		Use: "status", Short: "Show who you are, your server and what expires when",
		Long:    "Asks the server whether it answers. When it does not, the rest is shown as known here, and the exit status is 255.",
		Example: "tucdesk status\ntucdesk status --json", Flags: o.jsonFlag,
		Run: func(ctx context.Context, io *cli.IO, _ []string) error {
			return o.offline(io, func(a *account) error { return a.status(ctx, io, o.json) })
		},
	}
}

// statusView is the answer of status.
type statusView struct {
	loggedIn
	Fingerprint   key.Hash  `json:"fingerprint"`
	RosterVersion uint64    `json:"rosterVersion"`
	RosterExpires time.Time `json:"rosterExpires"`
	Reachable     bool      `json:"reachable"`
}

func (a *account) status(ctx context.Context, io *cli.IO, asJSON bool) error {
	failed := a.begin(ctx)
	if failed == nil {
		failed = a.server.Health(ctx)
	}
	if failed != nil && (a.state == nil || refusal.Of(failed) != refusal.Unreachable) {
		return failed
	}
	me, err := a.identity()
	if err != nil {
		return err
	}
	v := statusView{
		loggedIn: me, Fingerprint: a.member.Fingerprint,
		RosterVersion: a.state.Version(), RosterExpires: a.state.ExpiresAt(), Reachable: failed == nil,
	}
	if asJSON {
		return errors.Join(io.PrintJSON(v), failed)
	}
	state := "reachable"
	if failed != nil {
		state = "not reachable"
	}
	fmt.Fprintf(io.Out, "you       %s, role %s, key %s\nserver    %s, %s\nteam      %s\nroster    version %d, expires %s\n",
		terminal.Escape(v.Email), v.Role, v.Key.ShortCode(), terminal.Escape(v.Server), state, v.Fingerprint, v.RosterVersion, v.RosterExpires.Format(time.RFC3339))
	return failed
}
