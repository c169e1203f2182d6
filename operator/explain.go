package operator

import (
	"context"
	"errors"
	"flag"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/fleet"
	"github.com/tucdesk/tucdesk/operator/remote"
	"github.com/tucdesk/tucdesk/operator/verb"
	"github.com/tucdesk/tucdesk/policy"
)

type policyExplain struct {
	verb.Options
	email, user, at string
}

func policyExplainCommand() *cli.Command {
	var o policyExplain
	return &cli.Command{
		Use: "explain [USER@]HOST[,HOST...]|LABEL=VALUE[,...] ACTION [TARGET|PATH|-- ARGV...]", Short: "Say which rule decides, and why",
		Long: "Asks the rules in force what you, or the person of --email, may do on HOST, now or --at a time, and shows every\n" +
			"rule with the first condition that did not hold. Machines are written as for tucdesk exec; of several, each is\n" +
			"explained under its name. ACTION is one that rules name; another word is answered with all of them. Flags stand\n" +
			"before it. Behind it stands what it is done with:\n\n" +
			"  exec, shell               the command\n" +
			"  forward-local             TARGET, what is reached: host:port, or the path of a socket\n" +
			"  forward-remote            TARGET, where the machine listens: [address:]port, or the path of a socket\n" +
			"  copy-read, copy-write     PATH, absolute; SFTP is the same two actions\n\n" +
			"Without one, the answer may depend on it, and says so. The machine decides again: with the command's real file, where\n" +
			"a name leads, and where links do.\n\n" +
			"Exits 0 whatever the rules decide; --json has the decision as effect, and in dependsOn what that depends on.",
		Example: "tucdesk policy explain web shell\ntucdesk policy explain deploy@web exec -- systemctl restart nginx\ntucdesk policy explain web forward-local db.lan:5432\n" +
			"tucdesk policy explain web forward-remote 8080\ntucdesk policy explain env=prod,role=db copy-read /etc/hostname\n" +
			"tucdesk policy explain --email bob@example.com --at 2026-11-22T23:00:00Z web shell",
		MinArgs: 2, MaxArgs: -1, Complete: o.CompleteMachines, Second: completeAction, Again: func() bool { return true },
		Flags: func(f *flag.FlagSet) {
			o.JSONFlag(f)
			f.StringVar(&o.email, "email", "", "ask for this `person` instead of you")
			f.StringVar(&o.user, "user", "", "login `user` at the target (default: the agent's own user)")
			f.StringVar(&o.user, "l", "", "")
			f.StringVar(&o.at, "at", "", "ask for this `time`, as 2026-11-22T23:00:00Z")
		},
		Run: func(ctx context.Context, io *cli.IO, args []string) error {
			ask, err := o.read(args)
			if err != nil {
				return err
			}
			return o.WithRoster(ctx, io, func(a *account.Account) error { return o.run(ctx, io, a, ask) })
		},
	}
}

func completeAction(typed string) (list []string) {
	for _, a := range policy.Actions() {
		list = append(list, string(a))
	}
	return verb.Beginning(list, typed)
}

// asked is what a command line of policy explain means.
type asked struct {
	machines fleet.Selection
	action   policy.Action
	argv     []wire.Bytes
	target   string // of forward-local or forward-remote; "" is any
	path     string // of copy-read or copy-write; likewise
	at       time.Time
}

// wrong is err of a command line, with what to type instead.
func wrong(err error, hints ...string) error {
	return &cli.Error{Err: err, Hints: hints, Exit: cli.ExitUsage}
}

// read finds what is wrong with the command line before anybody is spoken to.
func (o *policyExplain) read(args []string) (q asked, err error) {
	if len(args) < 2 {
		return q, wrong(refusal.New(refusal.BadArgument, "there is no action"), "tucdesk policy explain HOST shell")
	}
	if q.machines, err = fleet.Parse(args[:1]); err != nil {
		return q, wrong(err, "tucdesk policy explain --help")
	}
	if err := q.action.UnmarshalText([]byte(args[1])); err != nil {
		return q, wrong(err)
	}
	if rest := args[2:]; len(rest) > 0 && rest[0] != "--" && strings.HasPrefix(rest[0], "-") {
		// It would be taken for the command's first word, and the answer be about that.
		return q, wrong(refusal.New(refusal.BadArgument, "%q stands behind the action, where the command is", rest[0]),
			"flags stand before the action, and a command behind --: tucdesk policy explain --json web exec -- uname -a")
	}
	if err := q.with(args[0], remote.AfterDashes(args[2:])); err != nil {
		return q, err
	}
	if q.at = time.Now(); o.at != "" {
		if q.at, err = time.Parse(time.RFC3339, o.at); err != nil {
			return q, wrong(refusal.New(refusal.BadArgument, "--at %q is not a time that can be read", o.at), "write it as 2026-11-22T23:00:00Z")
		}
	}
	return q, nil
}

// with reads what stands behind the action, of the machines that were typed.
func (q *asked) with(typed string, rest []string) error {
	line := "tucdesk policy explain " + typed + " "
	switch q.action {
	case policy.Exec, policy.Shell:
		q.argv = remote.ToArgv(rest)
		return nil
	}
	if len(rest) == 0 {
		return nil
	}
	read, hint := q.reader(line)
	switch {
	case read == nil:
		return wrong(refusal.New(refusal.BadArgument, "nothing stands behind %s, and here is %q", q.action, rest[0]), hint...)
	case len(rest) > 1:
		return wrong(refusal.New(refusal.BadArgument, "one word stands behind %s, and here are %d", q.action, len(rest)), hint...)
	}
	if err := read(rest[0]); err != nil {
		return wrong(err, hint...)
	}
	return nil
}

// reader is for the word behind an action that may have one, else nil; hint is what to
// type.
func (q *asked) reader(line string) (read func(string) error, hint []string) {
	target := func(word string) (err error) {
		q.target, err = policy.ReadTarget(q.action, word)
		return err
	}
	path := func(word string) (err error) {
		q.path, err = policy.ReadPath(word)
		return err
	}
	switch q.action {
	case policy.ForwardLocal:
		return target, []string{line + "forward-local localhost:80"}
	case policy.ForwardRemote:
		return target, []string{line + "forward-remote 8080"}
	case policy.CopyRead, policy.CopyWrite:
		return path, []string{line + string(q.action) + " /etc/hostname"}
	case policy.Forward:
		return nil, []string{"it is two actions, of which each has a target: " + line + "forward-local localhost:80", line + "forward-remote 8080"}
	case policy.Copy:
		return nil, []string{"it is two actions, of which each has a path: " + line + "copy-read /etc/hostname", line + "copy-write /etc/hostname"}
	}
	return nil, []string{line + string(q.action)}
}

func (o *policyExplain) run(ctx context.Context, io *cli.IO, a *account.Account, ask asked) error {
	if err := a.NeedRules(); err != nil {
		return err
	}
	if one, ok := ask.machines.One(); ok {
		m, err := a.Find(ctx, one.Name)
		if err != nil {
			return err
		}
		v, text, err := o.explain(a, m, one.User, ask)
		if err != nil {
			return err
		}
		if o.JSON {
			return io.PrintJSON(v)
		}
		return io.PrintLines(text)
	}
	return o.each(ctx, io, a, ask)
}

// each explains it for every machine that is meant, under the machine's name.
func (o *policyExplain) each(ctx context.Context, io *cli.IO, a *account.Account, ask asked) error {
	machines, err := a.Machines(ctx, io)
	if err != nil {
		return err
	}
	known := map[string]account.Machine{}
	for _, m := range machines {
		known[m.Cert.Name] = m
	}
	targets, err := remote.Pick(a, ask.machines, machines)
	if err != nil {
		return err
	}
	views := []explanationView{}
	for _, t := range targets {
		v, text, err := o.explain(a, known[t.Name], t.User, ask)
		if err != nil {
			return err
		}
		if views = append(views, v); !o.JSON {
			if err := errors.Join(io.Print("%s:", t), io.PrintLines("  "+strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  "))); err != nil {
				return err
			}
		}
	}
	if o.JSON {
		return io.PrintJSON(views)
	}
	return nil
}

// explain is the answer for one machine. A user that is written with it counts more
// than --user, as with exec.
func (o *policyExplain) explain(a *account.Account, m account.Machine, user string, ask asked) (v explanationView, text string, err error) {
	user = verb.OrDefault(user, o.user)
	q, err := a.Question(m, wire.Action(ask.action), wire.Params{User: user, Argv: ask.argv})
	if err != nil {
		return v, "", err
	}
	if o.email != "" {
		if err := askAs(a, &q, o.email); err != nil {
			return v, "", err
		}
	}
	q.Target = ask.target
	e := a.Rules.Explain(&q, ask.at)
	if ask.path != "" {
		e = e.ForPath(ask.path)
	}
	v = viewExplanation(e)
	v.Host, v.User, v.Action, v.Target, v.Path = m.Cert.Name, user, string(ask.action), ask.target, ask.path
	text = e.String()
	if ask.action == policy.Shell || ask.action == policy.Exec {
		v.Env = a.Rules.Environment()
		if e.Decision.Effect != policy.Deny { // or it would look as if --env were of any use
			text += "variables that --env may set: " + verb.OrDefault(strings.Join(v.Env, " "), "none") + "\n"
		}
	}
	return v, text, nil
}

// explanationView is the answer of policy explain.
type explanationView struct {
	decisionView
	Host   string     `json:"host"`
	User   string     `json:"user"` // "" is the agent's own
	Action string     `json:"action"`
	Target string     `json:"target"` // of forward-local and forward-remote, as rules write it; "" is any
	Path   string     `json:"path"`   // of copy-read and copy-write, likewise
	At     time.Time  `json:"at"`
	Gated  bool       `json:"gated"`
	Rules  []ruleView `json:"rules"`
	Env    []string   `json:"env"` // variables that a request may set, for shell and exec

	// DependsOn is "target" or "path" where none was said and effect does not hold for
	// all: what it holds for is in the targets and roots of the rules that matched. Else "".
	DependsOn string `json:"dependsOn"`

	OnlyHost []string `json:"onlyMachine"` // rules that name login users, of whom only the machine knows whether its agent is one: it may be stricter
}

type ruleView struct {
	Rule    string `json:"rule"`
	Line    int    `json:"line"`
	Block   bool   `json:"block"`
	Matched bool   `json:"matched"`
	Why     string `json:"why"`

	Targets []string `json:"targets"` // of forwards; [] is no restriction to some
	Roots   []string `json:"roots"`   // folders for copies, likewise
}

func viewExplanation(e policy.Explanation) explanationView {
	v := explanationView{decisionView: viewDecision(e.Decision), At: e.At.UTC(), Gated: e.Gated, Rules: []ruleView{}, Env: []string{}, DependsOn: e.Depends, OnlyHost: verb.List(e.OnlyHost)}
	for _, r := range e.Rules {
		v.Rules = append(v.Rules, ruleView{r.ID, r.Line, r.Block, r.Matched, r.Why, verb.List(r.Targets), verb.List(r.Roots)})
	}
	return v
}

// askAs puts another member's identity into the question.
func askAs(a *account.Account, q *policy.Request, email string) error {
	for _, m := range a.State.Roster().Operators {
		if m.Email == email {
			q.Operator, q.Email, q.Person, q.Role = m.Key.ID(), m.Email, m.Person, m.Role
			return nil
		}
	}
	return refusal.New(refusal.NotFound, "nobody %q in the roster", email)
}
