package operator

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/diagnosis"
	"github.com/tucdesk/tucdesk/internal/audit/finding"
	"github.com/tucdesk/tucdesk/internal/audit/tiles"
	"github.com/tucdesk/tucdesk/internal/audit/verify"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/verb"
)

type auditVerify struct {
	verb.Options
	fingerprint string
	cosigners   int
	atLeast     int64
	complete    bool
	all         bool
}

func auditVerifyCommand() *cli.Command {
	var o auditVerify
	return &cli.Command{
		Use: "verify EXPORT", Short: "Check an exported log offline",
		Long: "Checks EXPORT, a file (\"-\" is standard input) or a folder of tiles, with nothing but the team's fingerprint: the roster\n" +
			"chain, every signature, the tree's root over all entries, each machine's own chain, and that each risky command had its\n" +
			"approvals. Says first whether the log holds and what was done to it: which entry was edited, deleted, inserted,\n" +
			"reordered or cut off. One deleted entry makes many others look wrong; those follow from it and are listed with --all.\n\n" +
			"On a member's machine the fingerprint and the newest checkpoint that this client has seen are taken from the state\n" +
			"folder. Only a checkpoint that was seen elsewhere shows that nothing was cut off at the end: without one of as many\n" +
			"entries, as always with --fingerprint, it says up to which entry the log holds. Counts the machines and people who\n" +
			"cosigned each checkpoint, which the server cannot do in their place.\n\n" +
			"The newest checkpoint covers every entry, so earlier ones may be missing, and that is not told: what goes with one is\n" +
			"only who had cosigned it.\n\n" +
			"A log that was cut off behind one of its checkpoints is one that the server could have exported at that time, and nothing\n" +
			"in it tells the two apart. A script that must not pass it says what it knows: --at-least with how many entries there\n" +
			"are, from whoever exported it or the verification before, or --complete where this client has seen the end.\n\n" +
			"Exits 0 when nothing was found; 3 when EXPORT is whole but ends before the newest checkpoint that this client has seen, or\n" +
			"has fewer entries than --at-least: cut off, an older export, or a server that hides what came after; export again. Exits 4\n" +
			"with --complete when nothing was found and nobody here knows whether the last entry is the log's last. Exits 2 when\n" +
			"--at-least or --cosigners is below 0, or --cosigners more than the team has machines and people. Exits 1 on anything else, also where a machine signed two\n" +
			"logs of its own (machine_forked: set back, cloned, or its key stolen), which nobody did to this log and which stays in it.",
		Example: "tucdesk audit verify acme.audit\ntucdesk audit verify --fingerprint 9f86d081... acme.audit\nxzcat acme.audit.xz | tucdesk audit verify --json -\ntucdesk audit verify --cosigners 3 acme-log\ntucdesk audit verify --fingerprint 9f86d081... --at-least 334 acme.audit",
		MinArgs: 1, MaxArgs: 1,
		Flags: func(f *flag.FlagSet) {
			o.JSONFlag(f)
			f.StringVar(&o.fingerprint, "fingerprint", "", "the team's `fingerprint`, 64 hex digits (default: of this operator's team)")
			f.BoolVar(&o.all, "all", false, "list every finding below what it follows from")
			f.Int64Var(&o.atLeast, "at-least", 0, "`number` of entries that the log is known to have; fewer were cut off")
			f.BoolVar(&o.complete, "complete", false, "fail unless this client has seen that the log ends where EXPORT does")
			f.IntVar(&o.cosigners, "cosigners", 0, "`number` of machines and people who must have cosigned the newest checkpoint")
		},
		Run: func(ctx context.Context, tio *cli.IO, args []string) error { return o.run(ctx, tio, args[0]) },
	}
}

// exitOpen is the status of an export in which nothing was found, where --complete asks
// for more than that. Its own, since whoever gets it has no reason to suspect anything.
const exitOpen = 4

// exitOutdated is the status of an export that is whole and older than what this
// client has seen. Not 0, because whoever wants to hide the newest entries hands
// over an older export; not 1, because most who have one have only waited.
const exitOutdated = 3

func (o *auditVerify) run(ctx context.Context, tio *cli.IO, name string) error {
	if o.cosigners < 0 { // it would ask for nothing, and say so to nobody
		return &cli.Error{Err: refusal.New(refusal.BadArgument, "--cosigners %d is below zero", o.cosigners), Hints: []string{"without --cosigners nobody has to have cosigned"}, Exit: cli.ExitUsage}
	}
	if o.atLeast < 0 {
		return &cli.Error{Err: refusal.New(refusal.BadArgument, "--at-least %d is below zero", o.atLeast), Hints: []string{"without --at-least any number of entries will do"}, Exit: cli.ExitUsage}
	}
	fingerprint, known, err := o.pins()
	if err != nil {
		return err
	}
	report, err := verifyExport(ctx, tio, name, fingerprint, known)
	if refused := new(cli.Error); errors.As(err, &refused) {
		return err
	}
	if err != nil {
		return cmp.Or(ctx.Err(), o.unverified(name, fingerprint, report, err))
	}
	report.Expect(o.atLeast)
	if !o.JSON {
		printReport(tio, report, o.all)
		if report.Verdict() == verify.HoldsTo && !o.complete {
			tio.Say("hint: a member's client that has seen the log of as many entries knows it; tucdesk audit export remembers them, unless more is written meanwhile: then export again")
		}
	} else if err := tio.PrintJSON(viewReport(report)); err != nil {
		return err
	}
	return o.judge(report)
}

// unverified words why nothing of an export could be verified. What was done to one is
// not told as if it were the wrong file.
func (o *auditVerify) unverified(name string, fingerprint key.Hash, r verify.Report, err error) error {
	e := &cli.Error{Err: fmt.Errorf("verifying %q: %w", name, err), Exit: cli.ExitFailed}
	switch {
	case errors.Is(err, verify.ErrOtherRoot) && o.fingerprint != "":
		e.Err = fmt.Errorf("verifying %q: the team's root in it does not have the fingerprint %s: nothing in it was believed", name, fingerprint)
		e.Hints = []string{"any member is shown the team's fingerprint by: tucdesk team show", "if that is the one above, somebody replaced the root, or this is another team's log: " + keepIt}
	case errors.Is(err, verify.ErrOtherRoot):
		e.Err = fmt.Errorf("verifying %q: the team's root in it is not that of this operator's team: nothing in it was believed", name)
		e.Hints = []string{"the log of another team is checked by its own: --fingerprint FINGERPRINT", "if it should be this team's, somebody replaced the root: " + keepIt}
	case errors.Is(err, verify.ErrUnproved):
		e.Err = fmt.Errorf("this log was tampered with or is not whole: verifying %q: %w", name, err)
		e.Hints = []string{keepIt}
	case r.Origin == "": // nothing of an export was read
		e.Hints = []string{"an export is made by: tucdesk audit export --out FILE; one that was packed is unpacked first: xzcat FILE | tucdesk audit verify -"}
	}
	return e
}

const keepIt = "keep the file; show it to an owner"

// judge turns a report into how the program exits.
func (o *auditVerify) judge(r verify.Report) error {
	verdict := r.Verdict()
	switch {
	case verdict == verify.Broken:
		return &cli.Error{Err: fmt.Errorf("this log was tampered with or is not whole: %s", cli.Count(len(r.Findings)+r.More, "finding")), Exit: cli.ExitFailed,
			Hints: brokenHints(r)}
	case verdict == verify.Forked:
		return &cli.Error{Err: errors.New("a machine's own log forked: it was set back or cloned, or its key was stolen; what it wrote since then is not in this log"), Exit: cli.ExitFailed,
			Hints: []string{"a machine that is not removed yet: tucdesk agent rm NAME, then let it join anew (audit_fork in docs/OPERATIONS.md)", "what both logs prove stays in every later export of this team: a script that knows of it looks at the causes of --json"}}
	case o.cosigners > r.Hosts+r.People: // no export of this team could have them, and nobody has taken any away
		return &cli.Error{Err: refusal.New(refusal.BadArgument, "--cosigners %d: there are %s and %s who could cosign", o.cosigners, cli.Count(r.Hosts, "machine"), people(r.People)), Exit: cli.ExitUsage,
			Hints: []string{fmt.Sprintf("at most: --cosigners %d", r.Hosts+r.People), "of the entries nothing is said by this: what was found stands above"}}
	case r.Cosigners < o.cosigners:
		return &cli.Error{Err: fmt.Errorf("the newest checkpoint is cosigned by %s, not by %d", cosigners(r.Cosigners), o.cosigners), Exit: cli.ExitFailed,
			Hints: []string{"export again while machines are connected: they are asked for it"}}
	case verdict == verify.Older && r.Seen <= r.Size: // by --at-least alone
		return &cli.Error{Err: fmt.Errorf("this export is whole and has %s, not %d: its end was cut off, or it is older", cli.Count(r.Size, "entry"), o.atLeast), Exit: exitOutdated,
			Hints: []string{"get a new export, best from somebody else: tucdesk audit export --out FILE", "if that one ends here as well, the server hides what came after, or --at-least is too high; show both to an owner"}}
	case verdict == verify.HoldsTo && o.complete:
		return &cli.Error{Err: fmt.Errorf("nothing was found, and nobody here knows whether the log goes on behind %s", cli.Count(r.Size, "entry")), Exit: exitOpen,
			Hints: []string{"a member's client knows it, without --fingerprint, right after: tucdesk audit export --out FILE; where more was written meanwhile, export again", "elsewhere, ask who exported it how many entries there are: --at-least NUMBER in the place of --complete"}}
	case verdict == verify.Older:
		return &cli.Error{Err: fmt.Errorf("this export is whole and has %s; this client has seen %d: the export is older than what this client has seen", cli.Count(r.Size, "entry"), r.Seen), Exit: exitOutdated,
			Hints: []string{"export again and verify that: tucdesk audit export --out FILE", "if a new export ends here as well, the server hides what came after; show both to an owner"}}
	}
	return nil
}

// brokenHints come after a log that does not hold. A copy that broke off before the
// last line alone looks like one that somebody cut there.
func brokenHints(r verify.Report) []string {
	hints := []string{keepIt}
	if len(r.Findings) == 1 && r.More == 0 && r.Findings[0].Code == finding.Truncated && r.Findings[0].Trace.By == 0 {
		hints = slices.Insert(hints, 0, "only the last line is missing, as after a copy that broke off: copy the file again, or export again: tucdesk audit export --out FILE")
	}
	return hints
}

// checkpoints says how many hold, and of how many where that is fewer: behind a
// deleted entry none can be compared.
func checkpoints(r verify.Report) string {
	if r.Checkpoints == r.Written {
		return cli.Count(r.Checkpoints, "checkpoint")
	}
	return fmt.Sprintf("%s, of which %d could be checked", cli.Count(r.Written, "checkpoint"), r.Checkpoints)
}

func people(n int) string {
	if n == 1 {
		return "1 person"
	}
	return fmt.Sprintf("%d people", n)
}

// verifyExport reads standard input, a file or a folder of tiles.
func verifyExport(ctx context.Context, tio *cli.IO, name string, fingerprint key.Hash, known []string) (verify.Report, error) {
	seen := verb.NewProgress(tio, true)
	defer seen.End()
	check := func(r io.Reader, size int64) (verify.Report, error) {
		return verify.Export(seen.Reader(ctx, r, "verified", size), fingerprint, time.Now(), known...)
	}
	if name == "-" {
		return check(tio.In, 0)
	}
	info, err := os.Stat(name)
	if err != nil {
		return verify.Report{}, verb.NotThere(err, name, "an export is made by: tucdesk audit export --out FILE")
	}
	if info.IsDir() {
		folder, err := tiles.Open(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // it is a log, and something in it is none
			return verify.Report{}, &cli.Error{Err: fmt.Errorf("verifying %q: %w", name, err), Hints: []string{keepIt}}
		}
		if err != nil {
			return verify.Report{}, err
		}
		defer folder.Close()
		report, err := check(folder, 0)
		report.BadTiles(folder.Bad())
		return report, err
	}
	f, err := os.Open(name)
	if err != nil {
		return verify.Report{}, err
	}
	defer f.Close()
	return check(f, info.Size())
}

// pins are the fingerprint, and the checkpoint that this operator remembers.
func (o *auditVerify) pins() (fingerprint key.Hash, known []string, err error) {
	if o.fingerprint != "" {
		if fingerprint, err = key.ParseID(o.fingerprint); err != nil {
			err = &cli.Error{Err: refusal.New(refusal.BadArgument, "--fingerprint: want 64 digits of 0-9 and a-f"), Hints: []string{"any member is shown it by: tucdesk team show"}, Exit: cli.ExitUsage}
		}
		return fingerprint, nil, err
	}
	a, err := o.OpenAccount()
	if err != nil {
		return fingerprint, nil, &cli.Error{Err: err, Hints: []string{"outside a team: --fingerprint FINGERPRINT"}}
	}
	defer a.Close()
	if a.State == nil {
		return a.Member.Fingerprint, nil, nil
	}
	w, err := a.Witness()
	if err != nil {
		return fingerprint, nil, err
	}
	if seen := w.Checkpoint(); seen != "" {
		known = append(known, seen)
	}
	return a.Member.Fingerprint, known, nil
}

// reportView is a report as JSON.
type reportView struct {
	Schema        int            `json:"schemaVersion"`
	Verdict       verify.Verdict `json:"verdict"` // holds, holds_up_to, machine_forked, outdated, broken
	Causes        []causeView    `json:"causes"`  // what was done to the log, the first thing to look at first
	Team          wire.TeamID    `json:"team"`
	Fingerprint   key.Hash       `json:"fingerprint"`
	Origin        string         `json:"origin"`
	Size          int64          `json:"entries"`
	Root          key.Hash       `json:"root"`
	Seen          int64          `json:"seen"` // entries of the newest checkpoint that this client has seen, 0 for none
	RosterVersion uint64         `json:"rosterVersion"`
	Machines      int            `json:"machines"`
	People        int            `json:"people"`             // of the roster
	Checkpoints   int            `json:"checkpoints"`        // that hold
	Written       int            `json:"checkpointsWritten"` // that the export has; those above checkpoints could not be checked
	Cosigners     int            `json:"cosigners"`          // of the newest checkpoint
	Cosigned      []cosignedView `json:"cosigned"`
	OpenSessions  int            `json:"openSessions"`
	Gaps          int            `json:"gaps"`
	Behind        int            `json:"behind"`
	Findings      []findingView  `json:"findings"`
	More          int            `json:"moreFindings"`
}

type cosignedView struct {
	Size      int64 `json:"entries"`
	Cosigners int   `json:"cosigners"`
}

// causeView is what explains findings.
type causeView struct {
	Kind     diagnosis.Kind `json:"kind"`  // edited, deleted, inserted, reordered, truncated, forked, machine_forked, or a finding's code
	Entry    int64          `json:"entry"` // -1: the log as a whole
	Last     int64          `json:"last"`
	Detail   string         `json:"detail"`
	Findings []int          `json:"findings"` // which of the findings below it explains, from 0
}

type findingView struct {
	Entry  int64  `json:"entry"` // -1: the log as a whole
	Last   int64  `json:"last"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

func viewReport(r verify.Report) reportView {
	v := reportView{schemaVersion, r.Verdict(), []causeView{}, r.Team, r.Fingerprint, r.Origin, r.Size, r.Root, r.Seen, r.RosterVersion, r.Hosts, r.People, r.Checkpoints, r.Written, r.Cosigners, []cosignedView{},
		r.OpenSessions, r.Gaps, r.Behind, []findingView{}, r.More}
	for _, c := range r.Cosigned {
		v.Cosigned = append(v.Cosigned, cosignedView(c))
	}
	for _, c := range r.Causes() {
		v.Causes = append(v.Causes, causeView{c.Kind, c.Entry, c.Last, c.Detail, c.Findings})
	}
	for _, f := range r.Findings {
		v.Findings = append(v.Findings, findingView{f.Entry, f.Last, string(f.Code), f.Detail})
	}
	return v
}

// printReport says whether the log holds, then what was done to it, and then how much
// there was to check.
func printReport(tio *cli.IO, r verify.Report, all bool) {
	switch r.Verdict() {
	case verify.Holds:
		// Of the entries, and no more: an earlier checkpoint that was taken out does not show.
		tio.Print("holds: of the entries nothing was edited, deleted, inserted, reordered or cut off: the newest checkpoint covers all of them, and this client has seen none of more")
	case verify.HoldsTo:
		tio.Print("%s", holdsTo(r))
	case verify.Older:
		tio.Print("outdated: of the entries nothing was edited, deleted, inserted or reordered up to here; what came after is not in this export")
	case verify.Forked:
		tio.Print("%s", ownForks(r))
	case verify.Broken:
		tio.Print("broken: this log was tampered with or is not whole")
	}
	printCauses(tio, r, all)
	tio.Print("%s of %s, %s, roster version %d, root %s",
		cli.Count(r.Size, "entry"), cli.Count(r.Hosts, "machine"), checkpoints(r), r.RosterVersion, r.Root)
	tio.Print("the newest checkpoint is cosigned by %s; cosigned by anybody: %d of %s", cosigners(r.Cosigners), len(r.Cosigned), cli.Count(r.Checkpoints, "checkpoint"))
	if r.Gaps > 0 {
		tio.Print("%s that machines marked themselves, because they were cut off for too long", cli.Count(r.Gaps, "gap"))
	}
}

// cosigners are so many machines and people.
func cosigners(n int) string {
	switch n {
	case 0:
		return "nobody"
	case 1:
		return "1 machine or person"
	}
	return fmt.Sprintf("%d machines and people", n)
}

// holdsTo does not say that nothing was cut off: whoever cuts an export behind one of its
// checkpoints has an export that the server could have made.
func holdsTo(r verify.Report) string {
	if r.Size == 0 {
		return "holds: there are no entries; nobody here knows whether that is the end"
	}
	return fmt.Sprintf("holds up to entry %d: of the entries nothing was edited, deleted, inserted or reordered; nobody here knows whether that is the end", r.Size-1)
}

// ownForks is about machines that signed two chains, and nothing else but perhaps an end
// that is known to be missing, which has its own line.
func ownForks(r verify.Report) string {
	text := "machine_forked: a machine signed two logs of its own, of which this has one; this log itself was not tampered with: of the entries nothing was edited, deleted, inserted or reordered"
	if r.Seen == 0 || r.Seen < r.Size {
		text += "; nobody here knows whether the last one is the end"
	}
	return text
}

// printCauses lists what was done, and with all also what follows from it.
func printCauses(tio *cli.IO, r verify.Report, all bool) {
	for _, c := range r.Causes() {
		tio.Print("%s", c)
		switch follow := len(c.Findings) - 1; {
		case all:
			for _, i := range c.Findings {
				tio.Print("    %s", r.Findings[i])
			}
		case follow > 0:
			tio.Print("    and %s that follow from it; --all lists them", cli.Count(follow, "finding"))
		}
	}
	if r.More > 0 {
		tio.Print("and %s more, which were only counted", cli.Count(r.More, "finding"))
	}
}
