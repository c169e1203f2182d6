// Package members is the verbs for who is in a team and what holds there: people,
// owners, machines, and the life of the roster that names them.
package members

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/fleet"
	"github.com/tucdesk/tucdesk/operator/owners"
	"github.com/tucdesk/tucdesk/operator/verb"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// OperatorCommand is the noun operator.
func OperatorCommand() *cli.Command {
	return &cli.Command{Use: "operator", Short: "Add, list and revoke the team's people", Sub: []*cli.Command{operatorAddCommand(), operatorListCommand(), operatorRevokeCommand()},
		Leads: map[string]string{"rm": "tucdesk operator revoke", "remove": "tucdesk operator revoke", "list": "tucdesk operator ls"}}
}

type operatorAdd struct {
	owners.Options
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
		Values: map[string]func(string) []string{"role": verb.CompleteRole},
		Run: func(ctx context.Context, io *cli.IO, args []string) error {
			entry, err := o.entry(args[0], args[1])
			if err != nil {
				return err
			}
			return o.WithOwner(ctx, io, func(a *account.Account) error { return o.run(ctx, io, a, entry) })
		},
	}
}

// entry is what the command line asks for, before anybody is asked anything.
func (o *operatorAdd) entry(email, text string) (roster.Operator, error) {
	if !roster.ValidEmail(email) {
		return roster.Operator{}, &cli.Error{Err: refusal.New(refusal.BadName, "%q: want one e-mail address, as bob@example.com", email), Exit: cli.ExitUsage}
	}
	role, err := policy.ParseRole(o.role)
	if err != nil {
		return roster.Operator{}, &cli.Error{Err: err, Exit: cli.ExitUsage}
	}
	pub, err := key.ParsePublic[key.Operator](text)
	if err != nil {
		return roster.Operator{}, cli.NotCarried(err, text, "tucdesk-operator-pub:", "printed by tucdesk login TEAM-STRING on the other person's machine")
	}
	person := o.person
	if person == "" {
		person = email
	}
	return roster.Operator{Key: pub, Email: email, Person: strings.ToLower(person), Role: role}, owners.CheckCode(o.code, pub.ID())
}

func (o *operatorAdd) run(ctx context.Context, io *cli.IO, a *account.Account, entry roster.Operator) error {
	if err := unknown(a, entry.Key.ID()); err != nil {
		return err
	}
	if err := owners.CompareCode(ctx, io, o.code, entry.Email, entry.Key.ID()); err != nil {
		return err
	}
	if err := o.Change(ctx, io, a, nil, func(r *roster.Roster) { r.Operators = append(r.Operators, entry) }); err != nil {
		return err
	}
	if o.JSON {
		return io.PrintJSON(memberView{entry.Email, entry.Person, entry.Role.String(), entry.Key.ID(), entry.Key.ID().ShortCode(), false})
	}
	return io.Print("added %s as %s in roster version %d", entry.Email, entry.Role, a.State.Version())
}

// unknown refuses a key that the roster has, in force or revoked: it cannot come in
// again.
func unknown(a *account.Account, id key.ID) error {
	if a.State == nil {
		return nil
	}
	if a.State.Revoked(id) {
		return &cli.Error{Err: refusal.New(refusal.KeyRevoked, "key %s was revoked, and never comes back", id.ShortCode()), Hints: []string{
			"a new key, on the other person's machine: tucdesk login --state DIR TEAM-STRING"}, Exit: cli.ExitFailed}
	}
	for _, m := range a.State.Roster().Operators {
		if m.Key.ID() == id {
			return &cli.Error{Err: refusal.New(refusal.KeyInUse, "key %s is in the roster already, of %s as %s", id.ShortCode(), m.Email, m.Role), Hints: []string{
				"they can log in: tucdesk login", "for another role revoke this key first; the person then needs a new one"}}
		}
	}
	return nil
}

func operatorListCommand() *cli.Command {
	var o verb.Options
	return &cli.Command{
		Use: "ls", Short: "List the team's people and their keys", Example: "tucdesk operator ls --json", Flags: o.JSONFlag,
		Run: func(ctx context.Context, io *cli.IO, _ []string) error {
			return o.WithRoster(ctx, io, func(a *account.Account) error {
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
	owners.Options
	yes bool
}

func operatorRevokeCommand() *cli.Command {
	var o operatorRevoke
	return &cli.Command{
		Use: "revoke EMAIL|KEY-ID", Short: "Revoke a person's keys, or one key",
		Long: "Signs the next roster with the keys in its revoked list. Machines cut live sessions of a revoked key as soon as\n" +
			"they have that roster; the server refuses the key at once. A revoked key never comes back: for a person who\n" +
			"returns, add a new one. On a terminal it asks first; revoking the key of this very client, which locks it out, is\n" +
			"done without one only with --yes.",
		Example: "tucdesk operator revoke bob@example.com\ntucdesk operator revoke 3f6c...",
		MinArgs: 1, MaxArgs: 1, Complete: o.CompleteOperators,
		Flags: func(f *flag.FlagSet) {
			o.ChangeFlags(f)
			f.BoolVar(&o.yes, "yes", false, "do not ask, also before revoking the key of this client itself")
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
	if err := a.NeedRoster(); err != nil {
		return err
	}
	ids := keysOf(a, who)
	if len(ids) == 0 {
		return &cli.Error{Err: refusal.New(refusal.NotFound, "nobody %q with a key in force in the roster", who), Hints: []string{"tucdesk operator ls"}}
	}
	switch own := slices.Contains(ids, a.Key.ID()); {
	case own && !o.yes:
		no := &cli.Error{Err: errors.New("nothing was revoked: this is your own key"), Hints: []string{"to lock this client out nevertheless: --yes"}}
		if err := verb.Confirm(ctx, io, "This is your own key; this client will be locked out. Revoke it?", no); err != nil {
			return err
		}
	case !own:
		question := fmt.Sprintf("Revoke %s of %s? A revoked key never comes back.", cli.Count(len(ids), "key"), who)
		if err := agree(ctx, io, o.yes, question, "nothing was revoked"); err != nil {
			return err
		}
	}
	if err := o.Change(ctx, io, a, nil, func(r *roster.Roster) { r.Revoke(ids...) }); err != nil {
		return err
	}
	if o.JSON {
		return io.PrintJSON(revoked{ids, a.State.Version()})
	}
	return io.Print("revoked %s in roster version %d", cli.Count(len(ids), "key"), a.State.Version())
}

// agree asks a person at a terminal before what cannot be taken back. Scripts are not
// asked: what they run was read when it was written.
func agree(ctx context.Context, io *cli.IO, yes bool, question, otherwise string) error {
	if yes || !terminal.IsTerminal(io.In) {
		return nil
	}
	return verb.Confirm(ctx, io, question, &cli.Error{Err: errors.New(otherwise), Hints: []string{"without being asked: --yes"}, Exit: cli.ExitFailed})
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

type agentRemove struct {
	owners.Options
	yes bool
}

// AgentCommand is the noun agent.
func AgentCommand() *cli.Command {
	var o agentRemove
	return &cli.Command{Use: "agent", Short: "Remove machines", Sub: []*cli.Command{{
		Use: "rm HOST", Short: "Revoke a machine and take it off the list",
		Long: "Signs the next roster with the machine's key in its revoked list and deletes it at the server, so that its name is free again. Its sessions end, its\n" +
			"log entries stay, and it can only come back by joining anew. On a terminal it asks first.",
		Example: "tucdesk agent rm web\ntucdesk agent rm web --yes", MinArgs: 1, MaxArgs: 1, Complete: o.CompleteHosts,
		Flags: func(f *flag.FlagSet) {
			o.ChangeFlags(f)
			f.BoolVar(&o.yes, "yes", false, "do not ask")
		},
		Run: func(ctx context.Context, io *cli.IO, args []string) error {
			return o.WithOwner(ctx, io, func(a *account.Account) error { return o.run(ctx, io, a, args[0]) })
		},
	}}, Leads: map[string]string{"ls": "tucdesk ls", "list": "tucdesk ls", "add": "tucdesk token create"}}
}

// revoke puts the machine's key into the revoked list. Where an earlier rm
// did that and got no further, the key's id is enough.
func (o *agentRemove) revoke(ctx context.Context, a *account.Account, io *cli.IO, name string) (key.ID, error) {
	if err := a.NeedRoster(); err != nil {
		return key.ID{}, err
	}
	if id, err := key.ParseID(name); err == nil && a.State.Revoked(id) {
		return id, nil
	}
	m, err := find(ctx, a, name)
	if err != nil {
		return key.ID{}, err
	}
	id := m.Cert.Agent.ID()
	if err := agree(ctx, io, o.yes, fmt.Sprintf("Revoke the machine %s, key %s? It has to join anew to come back.", m.Cert.Name, id.ShortCode()), "nothing was removed"); err != nil {
		return key.ID{}, err
	}
	return id, o.Change(ctx, io, a, nil, func(r *roster.Roster) { r.Revoke(id) })
}

// find takes the name as ssh does, with its suffix too, but for a machine that is really
// called so: what is removed here does not come back.
func find(ctx context.Context, a *account.Account, name string) (account.Machine, error) {
	m, err := a.Find(ctx, name)
	if at := fleet.ParseTarget(name); refusal.Of(err) == refusal.NotFound && at.User == "" && at.Name != name {
		return a.Find(ctx, at.Name)
	}
	return m, err
}

func (o *agentRemove) run(ctx context.Context, io *cli.IO, a *account.Account, name string) error {
	id, err := o.revoke(ctx, a, io, name)
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
	return io.Print("removed %s in roster version %d", name, a.State.Version())
}
