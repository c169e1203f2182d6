package request

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/verb"
	"github.com/tucdesk/tucdesk/policy/approval"
)

// Settled names the end of a request that will not be approved any more; nil
// while it may be.
func Settled(state wire.RequestState, short string) error {
	switch state {
	case wire.RequestPending, wire.RequestApproved:
		return nil
	case wire.RequestDenied:
		return &cli.Error{Err: refusal.New(refusal.ApprovalDenied, "request %s was denied; nothing was run", short), Hints: []string{
			"who denied it: tucdesk requests show " + short, cli.AskAgain}}
	case wire.RequestExpired:
		return refusal.New(refusal.ApprovalExpired, "nobody approved in time")
	case wire.RequestCancelled:
		return refusal.New(refusal.ApprovalCancelled, "request %s was withdrawn by who made it", short)
	case wire.RequestUsed:
		return refusal.New(refusal.ApprovalUsed, "request %s has run", short)
	}
	return refusal.New(refusal.ProtocolError, "the server says that the request is in a state which this client does not know")
}

// RequestsCommand is the noun requests.
func RequestsCommand() *cli.Command {
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

func viewRequest(a *account.Account, w Waiting) requestView {
	v := requestView{
		Hash: w.Hash, State: string(w.Info.State), Email: w.email, Machine: w.Host, Agent: w.Request.Agent, User: w.Request.Params.User,
		Action: string(w.Request.Action), Argv: []string{}, Cwd: terminal.Exact(w.Request.Params.Cwd), Env: []string{}, TTY: w.Request.Params.TTY,
		Reason: w.Request.Reason, Need: w.Info.Need, Roles: verb.List(w.Info.Roles), Rule: w.Info.Rule,
		Expires: w.Request.ExpiresAt.Time(), Warnings: verb.List(w.doubts()),
	}
	for _, arg := range w.Request.Params.Argv {
		v.Argv = append(v.Argv, terminal.Exact(arg))
	}
	for _, e := range w.Request.Params.Env {
		v.Env = append(v.Env, terminal.Exact(e.Name+"="+string(e.Value)))
	}
	approved, denied := decisions(a, w, time.Now())
	v.Approved, v.Denied = verb.List(approved), verb.List(denied)
	return v
}

func requestsListCommand() *cli.Command {
	var o verb.Options
	return &cli.Command{
		Use: "ls", Short: "List requests, newest first", Example: "tucdesk requests ls\ntucdesk requests ls --json", Flags: o.JSONFlag,
		Run: func(ctx context.Context, tio *cli.IO, _ []string) error {
			return o.WithAccount(ctx, tio, func(a *account.Account) error { return listRequests(ctx, a, tio, o.JSON) })
		},
	}
}

// ShortHash is how many digits of a request's hash a listing shows: enough to find one
// among those that there are, and never to sign by. Who asks chooses the request's jti, and
// so has two requests of one beginning within a minute (attack E4).
const ShortHash = 12

func listRequests(ctx context.Context, a *account.Account, tio *cli.IO, asJSON bool) error {
	all, err := requests(ctx, a, tio)
	if err != nil {
		return err
	}
	if asJSON {
		views := []requestView{}
		for _, w := range all {
			views = append(views, viewRequest(a, w))
		}
		return tio.PrintJSON(views)
	}
	if len(all) == 0 {
		tio.Say("no requests")
		return nil
	}
	return verb.Table(tio, []any{"REQUEST", "STATE", "WHO", "MACHINE", "UNTIL", "COMMAND"}, func(row func(...any)) {
		for _, w := range all {
			row(w.Hash.String()[:ShortHash], string(w.Info.State), w.email, w.Host, cli.When(w.Request.ExpiresAt.Time()), verb.Shown(short(w.Command())))
		}
	})
}

// maxCommand is how much of a command a listing shows; show has all of it.
const maxCommand = 120

// short cuts a command for a listing, visibly. It is ASCII.
func short(command string) string {
	if len(command) <= maxCommand {
		return command
	}
	return command[:maxCommand] + "… (" + strconv.Itoa(len(command)) + " characters, see requests show)"
}

// requests fetches and verifies all requests; those that do not verify are
// counted and left out.
func requests(ctx context.Context, a *account.Account, tio *cli.IO) ([]Waiting, error) {
	if err := a.Refresh(ctx); err != nil {
		return nil, err
	}
	if _, err := a.FetchAgents(ctx); err != nil {
		return nil, err
	}
	infos, err := a.Server.Requests(ctx, a.Credentials)
	if err != nil {
		return nil, err
	}
	var good []Waiting
	now := time.Now()
	hosts := a.HostNames(now)
	for _, info := range infos {
		if w, err := openRequest(a, info, hosts, now); err == nil {
			good = append(good, w)
		}
	}
	if bad := len(infos) - len(good); bad > 0 {
		tio.Say("warning: left out, because nobody in the roster today signed them: %s", cli.Count(bad, "request"))
	}
	return good, nil
}

// request finds one by its hash or a unique beginning of it.
func request(ctx context.Context, a *account.Account, tio *cli.IO, prefix string) (Waiting, error) {
	all, err := requests(ctx, a, tio)
	if err != nil {
		return Waiting{}, err
	}
	return choose(all, prefix)
}

func choose(all []Waiting, prefix string) (Waiting, error) {
	var found []Waiting
	for _, w := range all {
		if strings.HasPrefix(w.Hash.String(), prefix) {
			found = append(found, w)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Waiting{}, &cli.Error{Err: refusal.New(refusal.NotFound, "no request %q", prefix), Hints: []string{"tucdesk requests ls"}}
	}
	return Waiting{}, &cli.Error{Err: refusal.New(refusal.BadRequest, "%d requests begin with %q", len(found), prefix), Hints: []string{
		"give more of the request's hash; the whole of each: tucdesk requests ls --json"}}
}

func requestsShowCommand() *cli.Command {
	var o verb.Options
	return &cli.Command{
		Use: "show REQUEST", Short: "Show exactly what a request would run", Example: "tucdesk requests show 3f6c0a91b2d4",
		MinArgs: 1, MaxArgs: 1, Flags: o.JSONFlag, Complete: completeFor(&o, new(bool)),
		Run: func(ctx context.Context, tio *cli.IO, args []string) error {
			return o.WithAccount(ctx, tio, func(a *account.Account) error {
				w, err := request(ctx, a, tio, args[0])
				if err != nil {
					return err
				}
				if o.JSON {
					return tio.PrintJSON(viewRequest(a, w))
				}
				w.print(tio.Out)
				w.printDecisions(tio.Out, a)
				w.printNext(tio.Out, a.Key.ID())
				return nil
			})
		},
	}
}

// completeWithin bounds how long a shell waits for the requests that it offers; our
// choice.
const completeWithin = 2 * time.Second

// completeFor offers the requests that wait, with whole hashes where those are asked for.
// They are not known without the server: what a cache had would be out of date by the time
// somebody is to approve.
func completeFor(o *verb.Options, whole *bool) func(context.Context, string) []string {
	return func(ctx context.Context, typed string) (ids []string) {
		ctx, cancel := context.WithTimeout(ctx, completeWithin)
		defer cancel()
		_ = o.WithAccount(ctx, &cli.IO{Err: io.Discard}, func(a *account.Account) error {
			all, err := requests(ctx, a, &cli.IO{Err: io.Discard})
			for _, w := range all {
				if id := w.Hash.String(); w.Info.State == wire.RequestPending && strings.HasPrefix(id, typed) {
					if !*whole {
						id = id[:max(ShortHash, len(typed))]
					}
					ids = append(ids, id+"\t"+short(w.Command()))
				}
			}
			return err
		})
		return ids
	}
}

const yesHelp = "neither show nor ask, for those who have read the request already; REQUEST is then its whole hash"

type decide struct {
	verb.Options
	yes bool
}

// exampleHash is a request's whole name, for the help.
const exampleHash = "3f6c0a91b2d4c86f05e7719a3b2c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e"

// named refuses to sign unseen by less than the whole name of a request. Whoever asks can
// make two whose hashes begin alike, have one of them read, and withdraw that before the
// answer (attack E4); only the whole hash stands for what was read.
func (o *decide) named(typed string) error {
	if _, err := key.ParseID(typed); !o.yes || err == nil {
		return nil
	}
	return &cli.Error{Err: fmt.Errorf("%q is not a whole hash; with --yes what is signed is not shown, and another request may begin so", typed), Exit: cli.ExitUsage, Hints: []string{
		"tucdesk requests show " + terminal.Quote([]byte(typed)), "it shows what would run, and the line to type for that very request; or leave --yes out"}}
}

func requestsApproveCommand() *cli.Command {
	var o decide
	return &cli.Command{
		Use: "approve REQUEST", Short: "Approve one request, for one run",
		Long: "Shows exactly what would run and, once you agree, signs it with your key. The machine checks your signature\n" +
			"itself and runs those very arguments once, within five minutes. Nobody can approve a request of their own.",
		Example: "tucdesk requests approve 3f6c0a91b2d4\ntucdesk requests approve --yes " + exampleHash,
		MinArgs: 1, MaxArgs: 1, Complete: completeFor(&o.Options, &o.yes),
		Flags: func(f *flag.FlagSet) {
			o.JSONFlag(f)
			f.BoolVar(&o.yes, "yes", false, yesHelp)
		},
		Run: func(ctx context.Context, tio *cli.IO, args []string) error {
			return o.run(ctx, tio, args[0], approval.Approve)
		},
	}
}

func requestsDenyCommand() *cli.Command {
	var o decide
	return &cli.Command{
		Use: "deny REQUEST", Short: "Deny a request, or withdraw your own",
		Long: "Shows the request and, once you agree, signs that it must not run: however many approve it, it never will. One's\n" +
			"own request is withdrawn. Whoever waits for it ends with status 253, and may ask again.",
		Example: "tucdesk requests deny 3f6c0a91b2d4\ntucdesk requests deny --yes " + exampleHash,
		MinArgs: 1, MaxArgs: 1, Complete: completeFor(&o.Options, &o.yes),
		Flags: func(f *flag.FlagSet) {
			o.JSONFlag(f)
			f.BoolVar(&o.yes, "yes", false, yesHelp)
		},
		Run: func(ctx context.Context, tio *cli.IO, args []string) error {
			return o.run(ctx, tio, args[0], approval.Deny)
		},
	}
}

// line is what signs d for this request and for no other.
func (w Waiting) line(d approval.Decision) string {
	return "tucdesk requests " + string(d) + " --yes " + w.Hash.String()
}

// question is what me is asked before d is signed, and what is so when the answer is no.
func (w Waiting) question(me key.ID, d approval.Decision) (text, left string) {
	switch {
	case d == approval.Approve:
		return "Approve this, once?", "not approved"
	case w.Request.Operator == me:
		return "Withdraw this request of yours?", "not withdrawn"
	}
	return "Deny this, for good?", "not denied"
}

func (o *decide) run(ctx context.Context, tio *cli.IO, prefix string, d approval.Decision) error {
	if err := o.named(prefix); err != nil {
		return err
	}
	return o.WithAccount(ctx, tio, func(a *account.Account) error {
		w, err := request(ctx, a, tio, prefix)
		if err != nil {
			return err
		}
		switch {
		case d == approval.Approve && w.Request.Operator == a.Key.ID():
			return refusal.New(refusal.SelfApproval, "this is your own request")
		case w.Info.State == wire.RequestApproved && d == approval.Approve:
			return &cli.Error{Err: refusal.New(refusal.BadRequest, "request %s is approved already", w.Hash.String()[:ShortHash]), Exit: cli.ExitFailed, Hints: []string{"nothing is left to do: whoever waits for it runs it now"}}
		}
		if err := Settled(w.Info.State, w.Hash.String()[:ShortHash]); err != nil {
			return err
		}
		if !o.yes {
			w.print(tio.Err) // talk: the answer is what became of the request
			question, left := w.question(a.Key.ID(), d)
			no := &cli.Error{Err: errors.New(left + "; nothing was signed"), Hints: []string{"without a terminal: " + w.line(d)}}
			if err := verb.Confirm(ctx, tio, question, no); err != nil {
				return err
			}
		}
		signed, err := approval.Make(a.Key, w.Request, w.Hash, d, time.Now())
		if err != nil {
			return err
		}
		info, err := a.Server.Approve(ctx, a.Credentials, w.Hash, signed)
		if err != nil {
			return err
		}
		w.Info = info
		if o.JSON {
			return tio.PrintJSON(viewRequest(a, w))
		}
		return tio.Print("request %s is %s", w.Hash.String()[:ShortHash], w.Info.State)
	})
}
