package operator

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/owners"
	"github.com/tucdesk/tucdesk/operator/request"
	"github.com/tucdesk/tucdesk/operator/verb"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
)

func policyCommand() *cli.Command {
	return &cli.Command{Use: "policy", Short: "Check, test, explain and publish the team's rules", Sub: []*cli.Command{
		policyShowCommand(), policyCheckCommand(), policyTestCommand(), policyExplainCommand(), policyPublishCommand(),
	}}
}

func policyShowCommand() *cli.Command {
	var o verb.Options
	return &cli.Command{
		Use: "show", Short: "Print the rules in force", Example: "tucdesk policy show > policy.toml", Flags: o.Flags,
		Run: func(ctx context.Context, io *cli.IO, _ []string) error {
			return o.WithRoster(ctx, io, func(a *account.Account) error { return a.ShowPolicy(io) })
		},
	}
}

func readRules(io *cli.IO, name string) (*policy.Rules, []byte, error) {
	text, err := verb.ReadPublicFile(io, name, account.MaxPolicyFile, "the rules in force, to begin with: tucdesk policy show > FILE")
	if err != nil {
		return nil, nil, err
	}
	rules, err := policy.Parse(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return rules, text, nil
}

func policyCheckCommand() *cli.Command {
	var asJSON bool
	return &cli.Command{
		Use: "check FILE", Short: "Read a rules file and name what is wrong or odd", Example: "tucdesk policy check policy.toml",
		Long:    "Exits 0 when the file can be used. Oddities, such as a rule that can never match, are named but are no error.\n\n" + ruleKeys,
		MinArgs: 1, MaxArgs: 1, Files: true, Flags: func(f *flag.FlagSet) { f.BoolVar(&asJSON, "json", false, cli.JSONUsage) },
		Run: func(_ context.Context, io *cli.IO, args []string) error {
			rules, _, err := readRules(io, args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return io.PrintJSON(viewCheck(rules))
			}
			for _, f := range rules.Check() {
				io.Print("%s: %s", args[0], f)
			}
			return io.Print("%s can be used, hash %s", args[0], rules.Hash())
		},
	}
}

// checkView is the answer of policy check.
type checkView struct {
	PolicyHash key.Hash `json:"policyHash"`
	Findings   []oddity `json:"findings"`
}

type oddity struct {
	Rule string `json:"rule"` // "" when it is about the whole file
	Line int    `json:"line"` // likewise 0
	Text string `json:"text"`
}

func viewCheck(rules *policy.Rules) checkView {
	v := checkView{PolicyHash: rules.Hash(), Findings: []oddity{}}
	for _, f := range rules.Check() {
		v.Findings = append(v.Findings, oddity(f))
	}
	return v
}

func policyTestCommand() *cli.Command {
	var asJSON bool
	return &cli.Command{
		Use: "test FILE", Short: "Run the expectations that stand in a rules file", Example: "tucdesk policy test policy.toml",
		Long:    "Asks the rules each question under [[expect]] and compares the answer. Exits 1 when one differs.\n\n" + expectKeys,
		MinArgs: 1, MaxArgs: 1, Files: true, Flags: func(f *flag.FlagSet) { f.BoolVar(&asJSON, "json", false, cli.JSONUsage) },
		Run: func(_ context.Context, io *cli.IO, args []string) error {
			rules, _, err := readRules(io, args[0])
			if err != nil {
				return err
			}
			return testRules(io, args[0], rules.RunExpectations(), asJSON)
		},
	}
}

// resultView is one expectation in the answer of policy test.
type resultView struct {
	Name string       `json:"name"`
	Line int          `json:"line"`
	OK   bool         `json:"ok"`
	Want string       `json:"want"`
	Rule string       `json:"wantRule"` // "" is any
	Got  decisionView `json:"got"`
}

func testRules(io *cli.IO, name string, results []policy.Result, asJSON bool) error {
	failed, views := 0, []resultView{}
	for _, r := range results {
		views = append(views, resultView{r.Name, r.Line, r.OK, r.Want.String(), r.Rule, viewDecision(r.Got)})
		if r.OK {
			continue
		}
		failed++
		if !asJSON {
			io.Print("%s:%d: %s: want %s, got %s by %s: %s", name, r.Line, r.Name, strings.TrimSpace(r.Want.String()+" "+r.Rule),
				r.Got.Effect, verb.OrDefault(r.Got.Rule, "no rule"), r.Got.Reason)
		}
	}
	if asJSON {
		if err := io.PrintJSON(views); err != nil {
			return err
		}
	} else {
		io.Print("%s, %d failed", cli.Count(len(results), "expectation"), failed)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %s failed", failed, cli.Count(len(results), "expectation"))
	}
	return nil
}

type decisionView struct {
	Effect    string   `json:"effect"`
	Rule      string   `json:"rule"`
	Reason    string   `json:"reason"`
	Approvals int      `json:"approvals"`
	Roles     []string `json:"roles"` // any of which may approve
}

func viewDecision(d policy.Decision) decisionView {
	return decisionView{d.Effect.String(), d.Rule, d.Reason, d.Approval.Count, verb.SplitList(d.Approval.Roles.String())}
}

func policyPublishCommand() *cli.Command {
	var o owners.Options
	return &cli.Command{
		Use: "publish FILE", Short: "Put a rules file into force",
		Long: "Checks FILE and its expectations, binds its hash in the next roster with an owner's signature and hands both to the\n" +
			"server. Machines use the new rules from the moment they have verified that roster. A demand for approval that\n" +
			"this team has too few people for is warned of. Rules that are in force already change nothing.",
		Example: "tucdesk policy publish policy.toml", MinArgs: 1, MaxArgs: 1, Flags: o.ChangeFlags,
		Run: func(ctx context.Context, io *cli.IO, args []string) error {
			rules, text, err := readRules(io, args[0])
			if err != nil {
				return err
			}
			for _, r := range rules.RunExpectations() {
				if !r.OK {
					return &cli.Error{Err: fmt.Errorf("expectation %q of line %d fails", r.Name, r.Line), Hints: []string{"tucdesk policy test " + args[0]}}
				}
			}
			return o.WithOwner(ctx, io, func(a *account.Account) error {
				if a.State != nil { // or this client has never seen who is in the team
					for _, f := range rules.CheckTeam(rolesOf(a.State, time.Now())) {
						io.Say("warning: %s", f)
					}
				}
				return publishPolicy(ctx, &o, io, a, rules.Hash(), text)
			})
		},
	}
}

// rolesOf has for each person of a team the roles of the keys that hold at now.
func rolesOf(team *roster.State, now time.Time) []policy.RoleSet {
	roles := map[string]policy.RoleSet{}
	for _, o := range team.Roster().Operators {
		if _, err := team.Operator(o.Key.ID(), now); err == nil {
			roles[o.Person] |= policy.Roles(o.Role)
		}
	}
	return slices.Collect(maps.Values(roles))
}

// inForce reports rules that need no new roster: they are those of the newest one, this
// client has their text from the server, and no renewal is due, which comes with any
// change.
func inForce(a *account.Account, hash key.Hash, now time.Time) bool {
	return !a.Alone && a.State != nil && a.Rules != nil && a.State.PolicyHash() == hash && len(a.Warnings(now)) == 0
}

func publishPolicy(ctx context.Context, o *owners.Options, io *cli.IO, a *account.Account, hash key.Hash, text []byte) error {
	if inForce(a, hash, time.Now()) {
		io.Say("nothing to change: these rules are in force already")
	} else if err := o.Change(ctx, io, a, text, func(r *roster.Roster) { r.PolicyHash = hash }); err != nil {
		return err
	}
	if o.JSON {
		return io.PrintJSON(struct {
			PolicyHash key.Hash `json:"policyHash"`
			Version    uint64   `json:"rosterVersion"`
		}{hash, a.State.Version()})
	}
	return io.Print("policy %s is in force with roster version %d", hash.String()[:request.ShortHash], a.State.Version())
}
