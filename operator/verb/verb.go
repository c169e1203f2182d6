// Package verb is what every verb of the client has: where its state is, whether it
// answers as JSON, tables and questions for people, files they name.
package verb

import (
	"context"
	"flag"
	"slices"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/policy"
)

// Options are the flags that every verb has.
type Options struct {
	state string
	JSON  bool // the answer is one JSON value
}

// Flags defines those that every verb has.
func (o *Options) Flags(f *flag.FlagSet) {
	f.StringVar(&o.state, "state", "", "state `folder` (default $XDG_STATE_HOME/tucdesk or ~/.local/state/tucdesk)")
}

// JSONFlag is Flags and --json.
func (o *Options) JSONFlag(f *flag.FlagSet) {
	o.Flags(f)
	f.BoolVar(&o.JSON, "json", false, cli.JSONUsage)
}

// QuietFlag is for verbs whose answer has one word that scripts want alone.
func QuietFlag(f *flag.FlagSet, quiet *bool, usage string) {
	f.BoolVar(quiet, "quiet", false, usage)
	f.BoolVar(quiet, "q", false, "")
}

// Home is the state folder that the person chose.
func (o *Options) Home() (account.Home, error) {
	if o.state != "" {
		return account.Home{Dir: o.state}, nil
	}
	dir, err := account.DefaultDir()
	return account.Home{Dir: dir}, err
}

// WithAccount opens the account, signs in and runs f.
func (o *Options) WithAccount(ctx context.Context, io *cli.IO, f func(*account.Account) error) error {
	return o.Offline(io, func(a *account.Account) error {
		if err := a.Begin(ctx); err != nil {
			return err
		}
		return f(a)
	})
}

// WithRoster is WithAccount with the newest roster and rules that the server has.
func (o *Options) WithRoster(ctx context.Context, io *cli.IO, f func(*account.Account) error) error {
	return o.WithAccount(ctx, io, func(a *account.Account) error {
		if err := a.Refresh(ctx); err != nil {
			return err
		}
		return f(a)
	})
}

// OpenAccount opens the account in the state folder that the person chose, without the
// network and without a word about what will expire. The caller closes it.
func (o *Options) OpenAccount() (*account.Account, error) {
	home, err := o.Home()
	if err != nil {
		return nil, err
	}
	return account.Open(home)
}

// Offline opens the account and runs f without having spoken to the server.
func (o *Options) Offline(io *cli.IO, f func(*account.Account) error) error {
	a, err := o.OpenAccount()
	if err != nil {
		return err
	}
	defer a.Close()
	for _, w := range a.Warnings(time.Now()) {
		io.Say("warning: %s", w)
	}
	return f(a)
}

// CompleteHosts offers the names of the machines seen last, without the
// network: a completion must answer at once. A login user in front of one stays.
func (o *Options) CompleteHosts(_ context.Context, typed string) []string {
	return o.completeLast("@", typed, (*account.Account).KnownNames)
}

// CompleteMachines offers names and labels likewise, for the last item of a list.
func (o *Options) CompleteMachines(_ context.Context, typed string) []string {
	return o.completeLast(",@", typed, func(a *account.Account, last string) []string {
		return append(a.KnownNames(last), a.KnownLabels(last)...)
	})
}

// CompleteOperators offers the e-mail addresses of the roster seen last, likewise.
func (o *Options) CompleteOperators(_ context.Context, typed string) []string {
	return o.completeLast("", typed, func(a *account.Account, _ string) (list []string) {
		for _, op := range a.State.Roster().Operators {
			if !a.State.Revoked(op.Key.ID()) {
				list = append(list, op.Email)
			}
		}
		return Beginning(list, typed)
	})
}

// CompleteTags offers the tags that enrollers may give, for the last of a list.
func (o *Options) CompleteTags(typed string) []string {
	return o.completeLast(",", typed, func(a *account.Account, last string) (list []string) {
		for _, e := range a.State.Roster().Enrollers {
			if !a.State.Revoked(e.Key.ID()) {
				list = append(list, e.Tags...)
			}
		}
		return Beginning(list, last)
	})
}

// CompleteRole offers the roles.
func CompleteRole(typed string) (list []string) {
	for r := policy.Viewer; r.Valid(); r++ {
		list = append(list, r.String())
	}
	return Beginning(list, typed)
}

// Beginning are those of list that begin with typed, sorted and each once.
func Beginning(list []string, typed string) []string {
	list = slices.DeleteFunc(slices.Clone(list), func(s string) bool { return !strings.HasPrefix(s, typed) })
	slices.Sort(list)
	return slices.Compact(list)
}

// completeLast offers what find knows for what stands behind the last of marks.
func (o *Options) completeLast(marks, typed string, find func(a *account.Account, last string) []string) (list []string) {
	a, err := o.OpenAccount()
	if err != nil {
		return nil
	}
	defer a.Close()
	if a.State == nil {
		return nil
	}
	at := strings.LastIndexAny(typed, marks) + 1
	for _, found := range find(a, typed[at:]) {
		list = append(list, typed[:at]+found)
	}
	return list
}

// ListFlag is a flag that may be given more than once.
type ListFlag []string

// String joins the values, for the help text.
func (l *ListFlag) String() string { return strings.Join(*l, ",") }

// Set adds a value.
func (l *ListFlag) Set(v string) error {
	*l = append(*l, v)
	return nil
}
