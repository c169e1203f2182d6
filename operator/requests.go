package operator

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/approval"
)

func requestsCommand() *cli.Command {
	return &cli.Command{Use: "requests", Short: "See, approve and deny what waits for an approval", Sub: []*cli.Command{
		requestsListCommand(), requestsShowCommand(), requestsApproveCommand(), requestsDenyCommand(),
	}}
}

// requestView is one request as JSON.
type requestView struct {
	Hash     key.Hash  `json:"request"`
	State    string    `json:"state"`
	Email    string    `json:"email"`
	Machine  string    `json:"machine"`
	Agent    key.ID    `json:"agent"`
	User     string    `json:"user"`
	Action   string    `json:"action"`
	Argv     []string  `json:"argv"`      // escaped as on the terminal
	Cwd      string    `json:"directory"` // likewise; "" is the user's home
	Env      []string  `json:"env"`       // likewise, as NAME=VALUE
	TTY      bool      `json:"tty"`
	Reason   string    `json:"reason"`
	Need     int       `json:"need"`
	Roles    []string  `json:"roles"`
	Rule     string    `json:"rule"`
	Approved []string  `json:"approved"`
	Denied   []string  `json:"denied"`
	Expires  time.Time `json:"expires"`
	Warnings []string  `json:"warnings"`
}

func (a *account) viewRequest(w waiting) requestView {
	v := requestView{
		Hash: w.hash, State: string(w.info.State), Email: w.email, Machine: w.host, Agent: w.request.Agent, User: w.request.Params.User,
		Action: string(w.request.Action), Argv: []string{}, Cwd: terminal.Escape(w.request.Params.Cwd), Env: []string{}, TTY: w.request.Params.TTY,
		Reason: w.request.Reason, Need: w.info.Need, Roles: list(w.info.Roles), Rule: w.info.Rule,
		Expires: w.request.ExpiresAt.Time(), Warnings: list(w.doubts()),
	}
	for _, arg := range w.request.Params.Argv {
		v.Argv = append(v.Argv, terminal.Escape(arg))
	}
	for _, e := range w.request.Params.Env {
		v.Env = append(v.Env, terminal.Escape(e.Name+"="+string(e.Value)))
	}
	approved, denied := a.decisions(w, time.Now())
	v.Approved, v.Denied = list(approved), list(denied)
	return v
}

// list makes an empty list [] in JSON: who reads it must not meet null.
func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

func requestsListCommand() *cli.Command {
	var o options
	return &cli.Command{
		Use: "ls", Short: "List requests, newest first", Example: "tucdesk requests ls\ntucdesk requests ls --json", Flags: o.jsonFlag,
		Run: func(ctx context.Context, io *cli.IO, _ []string) error {
			return o.withAccount(ctx, io, func(a *account) error { return a.listRequests(ctx, io, o.json) })
		},
	}
}

// shortHash is how many digits of a request's hash a listing shows.
const shortHash = 12

func (a *account) listRequests(ctx context.Context, io *cli.IO, asJSON bool) error {
	all, err := a.requests(ctx, io)
	if err != nil {
		return err
	}
	if asJSON {
		views := []requestView{}
		for _, w := range all {
			views = append(views, a.viewRequest(w))
		}
		return io.PrintJSON(views)
	}
	if len(all) == 0 {
		io.Say("no requests")
		return nil
	}
	return table(io, []any{"REQUEST", "STATE", "WHO", "MACHINE", "UNTIL", "COMMAND"}, func(row func(...any)) {
		for _, w := range all {
			row(w.hash.String()[:shortHash], string(w.info.State), w.email, w.host, w.request.ExpiresAt.Time().Format(time.RFC3339), shown(short(w.command())))
		}
	})
}

// maxCommand is how much of a command a listing shows; show has all of it.
const maxCommand = 120

// short cuts a command for a listing, visibly. It is escaped text, so a cut
// between two bytes of one character is all that has to be avoided.
func short(command string) string {
	if len(command) <= maxCommand {
		return command
	}
	return strings.ToValidUTF8(command[:maxCommand], "") + "… (" + strconv.Itoa(len(command)) + " characters, see requests show)"
}

// requests fetches and verifies all requests; those that do not verify are
// counted and left out.
func (a *account) requests(ctx context.Context, io *cli.IO) ([]waiting, error) {
	if err := a.refresh(ctx); err != nil {
		return nil, err
	}
	if _, err := a.fetchAgents(ctx); err != nil {
		return nil, err
	}
	infos, err := a.server.Requests(ctx, a.cred)
	if err != nil {
		return nil, err
	}
	var good []waiting
	now := time.Now()
	hosts := a.hostNames(now)
	for _, info := range infos {
		if w, err := a.openRequest(info, hosts, now); err == nil {
			good = append(good, w)
		}
	}
	if bad := len(infos) - len(good); bad > 0 {
		io.Say("warning: %d requests are left out, nobody in the roster today signed them", bad)
	}
	return good, nil
}

// request finds one by its hash or a unique beginning of it.
func (a *account) request(ctx context.Context, io *cli.IO, prefix string) (waiting, error) {
	all, err := a.requests(ctx, io)
	if err != nil {
		return waiting{}, err
	}
	return choose(all, prefix)
}

func choose(all []waiting, prefix string) (waiting, error) {
	var found []waiting
	for _, w := range all {
		if strings.HasPrefix(w.hash.String(), prefix) {
			found = append(found, w)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return waiting{}, &cli.Error{Err: refusal.New(refusal.NotFound, "no request %q", prefix), Hints: []string{"tucdesk requests ls"}}
	}
	return waiting{}, &cli.Error{Err: refusal.New(refusal.BadRequest, "%d requests begin with %q", len(found), prefix), Hints: []string{"give more of the request's hash"}}
}

func requestsShowCommand() *cli.Command {
	var o options
	return &cli.Command{
		Use: "show REQUEST", Short: "Show exactly what a request would run", Example: "tucdesk requests show 3f6c0a91b2d4",
		MinArgs: 1, MaxArgs: 1, Flags: o.jsonFlag,
		Run: func(ctx context.Context, io *cli.IO, args []string) error {
			return o.withAccount(ctx, io, func(a *account) error {
				w, err := a.request(ctx, io, args[0])
				if err != nil {
					return err
				}
				if o.json {
					return io.PrintJSON(a.viewRequest(w))
				}
				w.print(io.Out)
				return nil
			})
		},
	}
}

type decide struct {
	options
	yes bool
}

func requestsApproveCommand() *cli.Command {
	var o decide
	return &cli.Command{
		Use: "approve REQUEST", Short: "Approve one request, for one run",
		Long: "Shows exactly what would run and, once you agree, signs it with your key. The machine checks your signature\n" +
			"itself and runs those very arguments once, within five minutes. Nobody can approve a request of their own.",
		Example: "tucdesk requests approve 3f6c0a91b2d4\ntucdesk requests approve 3f6c0a91b2d4 --yes",
		MinArgs: 1, MaxArgs: 1,
		Flags: func(f *flag.FlagSet) {
			o.jsonFlag(f)
			f.BoolVar(&o.yes, "yes", false, "do not ask; for those who have read the request already")
		},
		Run: func(ctx context.Context, io *cli.IO, args []string) error {
			return o.run(ctx, io, args[0], approval.Approve)
		},
	}
}

func requestsDenyCommand() *cli.Command {
	o := decide{yes: true}
	return &cli.Command{
		Use: "deny REQUEST", Short: "Deny a request, or withdraw your own", Example: "tucdesk requests deny 3f6c0a91b2d4",
		MinArgs: 1, MaxArgs: 1, Flags: o.jsonFlag,
		Run: func(ctx context.Context, io *cli.IO, args []string) error {
			return o.run(ctx, io, args[0], approval.Deny)
		},
	}
}

func (o *decide) run(ctx context.Context, io *cli.IO, prefix string, d approval.Decision) error {
	return o.withAccount(ctx, io, func(a *account) error {
		w, err := a.request(ctx, io, prefix)
		if err != nil {
			return err
		}
		switch {
		case d == approval.Approve && w.request.Operator == a.key.ID():
			return refusal.New(refusal.SelfApproval, "this is your own request")
		case w.info.State == wire.RequestApproved && d == approval.Approve:
			return refusal.New(refusal.BadRequest, "request %s is approved already", w.hash.String()[:shortHash])
		}
		if err := settled(w.info.State, w.hash.String()[:shortHash]); err != nil {
			return err
		}
		if !o.yes {
			w.print(io.Err) // talk: the answer is what became of the request
			if !confirm(ctx, io, "Approve this, once?") {
				return &cli.Error{Err: fmt.Errorf("not approved; nothing was signed"), Hints: []string{"without a terminal: --yes"}}
			}
		}
		signed, err := approval.Make(a.key, w.request, w.hash, d, time.Now())
		if err != nil {
			return err
		}
		info, err := a.server.Approve(ctx, a.cred, w.hash, signed)
		if err != nil {
			return err
		}
		w.info = info
		if o.json {
			return io.PrintJSON(a.viewRequest(w))
		}
		fmt.Fprintf(io.Out, "request %s is %s\n", w.hash.String()[:shortHash], w.info.State)
		return nil
	})
}
