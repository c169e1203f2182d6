package owners

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/verb"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// OperatorCommand is the noun operator.
func OperatorCommand() *cli.Command {
	return &cli.Command{Use: "operator", Short: "Add, list and revoke the team's people", Sub: []*cli.Command{operatorAddCommand(), operatorListCommand(), operatorRevokeCommand()}}
}

type operatorAdd struct {
	Options
	role, person, code string
}

func operatorAddCommand() *cli.Command {
	var o operatorAdd
	return &cli.Command{
		Use: "add EMAIL KEY", Short: "Put a person's key into the roster",
		Long: "Signs the next roster with KEY in it. KEY and a short code are what tucdesk login TEAM-STRING prints on the other\n" +
			"person's machine. Compare the code by voice or in person before you agree: an e-mail with another key in it is how\n" +
			"a stranger becomes a colleague. --code takes the code that you were told, for scripts.",
		Example: "tucdesk operator add bob@example.com tucdesk-operator-pub:1Jx...\n" +
			"tucdesk operator add bob@example.com tucdesk-operator-pub:1Jx... --role approver --code 7Q2M-0XKD-91TB",
		MinArgs: 2, MaxArgs: 2,
		Flags: func(f *flag.FlagSet) {
			o.ChangeFlags(f)
			f.StringVar(&o.role, "role", "operator", "`role`: viewer, operator, approver, admin or owner")
			f.StringVar(&o.person, "person", "", "`id` of the person, the same for all keys of one person (default: the e-mail address)")
			f.StringVar(&o.code, "code", "", "the short `code` that the other person told you")
		},
		Run: func(ctx context.Context, io *cli.IO, args []string) error {
			return o.WithOwner(ctx, io, func(a *account.Account) error { return o.run(ctx, io, a, args[0], args[1]) })
		},
	}
}

func (o *operatorAdd) run(ctx context.Context, io *cli.IO, a *account.Account, email, text string) error {
	pub, err := key.ParsePublic[key.Operator](text)
	if err != nil {
		return &cli.Error{Err: err, Hints: []string{"KEY begins with tucdesk-operator-pub: and is printed by tucdesk login TEAM-STRING"}}
	}
	role, err := policy.ParseRole(o.role)
	if err != nil {
		return &cli.Error{Err: err, Exit: cli.ExitUsage}
	}
	if err := compareCode(ctx, io, o.code, email, pub.ID()); err != nil {
		return err
	}
	if o.person == "" {
		o.person = email
	}
	entry := roster.Operator{Key: pub, Email: email, Person: strings.ToLower(o.person), Role: role}
	if err := o.Change(ctx, io, a, nil, func(r *roster.Roster) { r.Operators = append(r.Operators, entry) }); err != nil {
		return err
	}
	if o.JSON {
		return io.PrintJSON(memberView{email, entry.Person, role.String(), pub.ID(), pub.ID().ShortCode(), false})
	}
	fmt.Fprintf(io.Out, "added %s as %s in roster version %d\n", email, role, a.State.Version())
	return nil
}

// compareCode makes sure that a person has compared the code out of band; code is
// what the flag says, "" for none.
func compareCode(ctx context.Context, io *cli.IO, code, who string, id key.ID) error {
	want := id.ShortCode()
	if code != "" {
		if !strings.EqualFold(strings.ReplaceAll(code, "-", ""), strings.ReplaceAll(want, "-", "")) {
			return refusal.New(refusal.BadArgument, "the key's short code is %s, not %s: this is not the key of the person you spoke to", want, code)
		}
		return nil
	}
	io.Say("short code of this key: %s", want)
	if !verb.Confirm(ctx, io, fmt.Sprintf("Does %s see the same code?", who)) {
		return &cli.Error{Err: fmt.Errorf("the short code was not confirmed; nothing was changed"), Hints: []string{"without a terminal, give the code that you were told: --code CODE"}}
	}
	return nil
}

func operatorListCommand() *cli.Command {
	var o verb.Options
	return &cli.Command{
		Use: "ls", Short: "List the team's people and their keys", Example: "tucdesk operator ls --json", Flags: o.JSONFlag,
		Run: func(ctx context.Context, io *cli.IO, _ []string) error {
			return o.WithAccount(ctx, io, func(a *account.Account) error {
				if err := a.Refresh(ctx); err != nil {
					return err
				}
				v, err := view(a)
				if err != nil {
					return err
				}
				if o.JSON {
					return io.PrintJSON(v.Operators)
				}
				return verb.Table(io, []any{"EMAIL", "ROLE", "CODE", "KEY"}, func(row func(...any)) {
					for _, m := range v.Operators {
						if m.Revoked {
							m.Role = "revoked"
						}
						row(m.Email, m.Role, m.Code, m.Key.String())
					}
				})
			})
		},
	}
}

type operatorRevoke struct {
	Options
	yes bool
}

func operatorRevokeCommand() *cli.Command {
	var o operatorRevoke
	return &cli.Command{
		Use: "revoke EMAIL|KEY-ID", Short: "Revoke a person's keys, or one key",
		Long: "Signs the next roster with the keys in its revoked list. Machines cut live sessions of a revoked key as soon as\n" +
			"they have that roster; the server refuses the key at once. A revoked key never comes back: for a person who\n" +
			"returns, add a new one. Revoking the key of this very client locks it out and asks first.",
		Example: "tucdesk operator revoke bob@example.com\ntucdesk operator revoke 3f6c...",
		MinArgs: 1, MaxArgs: 1,
		Flags: func(f *flag.FlagSet) {
			o.ChangeFlags(f)
			f.BoolVar(&o.yes, "yes", false, "do not ask before revoking the key of this client itself")
		},
		Run: func(ctx context.Context, io *cli.IO, args []string) error {
			return o.WithOwner(ctx, io, func(a *account.Account) error { return o.run(ctx, io, a, args[0]) })
		},
	}
}

// revoked is the answer of operator revoke and agent rm.
type revoked struct {
	Keys    []key.ID `json:"revoked"`
	Version uint64   `json:"rosterVersion"`
}

func (o *operatorRevoke) run(ctx context.Context, io *cli.IO, a *account.Account, who string) error {
	ids := keysOf(a, who)
	if len(ids) == 0 {
		return refusal.New(refusal.NotFound, "nobody %q with a key in force in the roster", who)
	}
	if slices.Contains(ids, a.Key.ID()) && !o.yes && !verb.Confirm(ctx, io, "This is your own key; this client will be locked out. Revoke it?") {
		return &cli.Error{Err: fmt.Errorf("nothing was revoked: this is your own key"), Hints: []string{"to lock this client out nevertheless: --yes"}}
	}
	if err := o.Change(ctx, io, a, nil, func(r *roster.Roster) { r.Revoke(ids...) }); err != nil {
		return err
	}
	if o.JSON {
		return io.PrintJSON(revoked{ids, a.State.Version()})
	}
	fmt.Fprintf(io.Out, "revoked %d key(s) in roster version %d\n", len(ids), a.State.Version())
	return nil
}

// keysOf finds keys by e-mail address, key id or short code.
func keysOf(a *account.Account, who string) (ids []key.ID) {
	for _, o := range a.State.Roster().Operators {
		id := o.Key.ID()
		if o.Email == who || id.String() == who || id.ShortCode() == who {
			ids = append(ids, id)
		}
	}
	return slices.DeleteFunc(ids, a.State.Revoked)
}

// AgentCommand is the noun agent.
func AgentCommand() *cli.Command {
	var o Options
	return &cli.Command{Use: "agent", Short: "Remove machines", Sub: []*cli.Command{{
		Use: "rm HOST", Short: "Revoke a machine and take it off the list",
		Long:    "Signs the next roster with the machine's key in its revoked list and deletes it at the server, so that its name is free again. Its log entries stay.",
		Example: "tucdesk agent rm web", MinArgs: 1, MaxArgs: 1, Flags: o.ChangeFlags, Complete: o.CompleteHosts,
		Run: func(ctx context.Context, io *cli.IO, args []string) error {
			return o.WithOwner(ctx, io, func(a *account.Account) error { return o.removeAgent(ctx, io, a, args[0]) })
		},
	}}}
}

// revokeAgent puts the machine's key into the revoked list. Where an earlier rm
// did that and got no further, the key's id is enough.
func revokeAgent(ctx context.Context, a *account.Account, io *cli.IO, o *Options, name string) (key.ID, error) {
	if id, err := key.ParseID(name); err == nil && a.State.Revoked(id) {
		return id, nil
	}
	m, err := a.Find(ctx, name)
	if err != nil {
		return key.ID{}, err
	}
	id := m.Cert.Agent.ID()
	return id, o.Change(ctx, io, a, nil, func(r *roster.Roster) { r.Revoke(id) })
}

func (o *Options) removeAgent(ctx context.Context, io *cli.IO, a *account.Account, name string) error {
	id, err := revokeAgent(ctx, a, io, o, name)
	if refusal.Of(err) == refusal.NotEnoughSignatures && !id.IsZero() {
		io.Say("when that is in force, take the machine off the list with: tucdesk agent rm %s", id)
	}
	if err != nil {
		return err
	}
	if err := a.Server.DeleteAgent(ctx, a.Credentials, id); err != nil {
		// By its name it can no longer be found: its certificate does not hold any more.
		return &cli.Error{Err: fmt.Errorf("the machine is revoked, but the server still lists it: %w", err), Hints: []string{"tucdesk agent rm " + id.String()}}
	}
	if o.JSON {
		return io.PrintJSON(revoked{[]key.ID{id}, a.State.Version()})
	}
	fmt.Fprintf(io.Out, "removed %s in roster version %d\n", name, a.State.Version())
	return nil
}
