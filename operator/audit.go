package operator

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/verify"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

func auditCommand() *cli.Command {
	return &cli.Command{Use: "audit", Short: "Export and verify the team's log", Sub: []*cli.Command{auditExportCommand(), auditVerifyCommand()}}
}

func auditExportCommand() *cli.Command {
	var o options
	var out string
	return &cli.Command{
		Use: "export", Short: "Fetch the whole log with everything needed to check it offline",
		Long: "Writes the log, the roster chain and the signed checkpoints as lines of JSON, to standard output or to --out, which\n" +
			"appears only when it is complete. The file names people, machines and commands; it holds no session data.",
		Example: "tucdesk audit export --out acme.audit\ntucdesk audit export | xz > acme.audit.xz",
		Flags: func(f *flag.FlagSet) {
			o.flags(f)
			f.StringVar(&out, "out", "", "new `file` to write")
			f.StringVar(&out, "o", "", "")
		},
		Run: func(ctx context.Context, tio *cli.IO, _ []string) error {
			return o.withAccount(ctx, tio, func(a *account) error { return a.export(ctx, tio, out) })
		},
	}
}

func (a *account) export(ctx context.Context, tio *cli.IO, out string) error {
	if err := a.gossip(ctx); err != nil {
		return err
	}
	log, err := a.server.AuditExport(ctx, a.cred)
	if err != nil {
		return err
	}
	defer log.Close()
	if out == "" {
		_, err := io.Copy(tio.Out, log)
		return err
	}
	if _, err := os.Lstat(out); err == nil { // before a long transfer; newFile has the last word
		return exists(out)
	}
	f, err := os.CreateTemp(filepath.Dir(out), ".tucdesk-export-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	n, err := io.Copy(f, log)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := newFile(f.Name(), out); err != nil {
		return err
	}
	tio.Say("%s: %d bytes; check it with: tucdesk audit verify %s", out, n, out)
	return nil
}

// newFile gives a complete file its name, unless something has that name: an older
// log may be evidence. A link says so in one step; where there are none, it is
// looked for first.
func newFile(complete, name string) error {
	err := os.Link(complete, name)
	if err == nil {
		return nil
	}
	if _, there := os.Lstat(name); there == nil {
		return exists(name)
	}
	return os.Rename(complete, name)
}

func exists(name string) error {
	return &cli.Error{Err: fmt.Errorf("writing %q: %w", name, fs.ErrExist), Hints: []string{"choose another file, or remove that one"}}
}

type auditVerify struct {
	options
	fingerprint string
}

func auditVerifyCommand() *cli.Command {
	var o auditVerify
	return &cli.Command{
		Use: "verify FILE", Short: "Check an exported log offline",
		Long: "Checks FILE (\"-\" is standard input) with nothing but the team's fingerprint: the roster chain, every signature, the\n" +
			"tree's root over all entries, each machine's own chain, and that each risky command had its approvals. Names every\n" +
			"entry that was edited, deleted, inserted, reordered or cut off, and exits 1 when there is one. On a member's machine the\n" +
			"fingerprint and the newest checkpoint that this client has seen are taken from the state folder.",
		Example: "tucdesk audit verify acme.audit\ntucdesk audit verify --fingerprint 9f86d081... acme.audit\nxzcat acme.audit.xz | tucdesk audit verify --json -",
		MinArgs: 1, MaxArgs: 1,
		Flags: func(f *flag.FlagSet) {
			o.jsonFlag(f)
			f.StringVar(&o.fingerprint, "fingerprint", "", "the team's `fingerprint`, 64 hex digits (default: of this operator's team)")
		},
		Run: func(_ context.Context, tio *cli.IO, args []string) error { return o.run(tio, args[0]) },
	}
}

func (o *auditVerify) run(tio *cli.IO, name string) error {
	fingerprint, known, err := o.pins()
	if err != nil {
		return err
	}
	f := tio.In
	if name != "-" {
		if f, err = os.Open(name); err != nil {
			return err
		}
		defer f.Close()
	}
	report, err := verify.Export(f, fingerprint, time.Now(), known...)
	if err != nil {
		return fmt.Errorf("verifying %q: %w", name, err)
	}
	if o.json {
		err = tio.PrintJSON(viewReport(report))
	} else {
		printReport(tio, report)
	}
	if n := len(report.Findings) + report.More; err == nil && n > 0 {
		return &cli.Error{Err: fmt.Errorf("%d findings: this log was tampered with or is not whole", n), Exit: cli.ExitFailed, Hints: []string{"keep the file; show it to an owner"}}
	}
	return err
}

// pins are the fingerprint, and the checkpoint that this operator remembers.
func (o *auditVerify) pins() (fingerprint key.Hash, known []string, err error) {
	if o.fingerprint != "" {
		fingerprint, err = key.ParseID(o.fingerprint)
		return fingerprint, nil, err
	}
	home, err := o.home()
	if err != nil {
		return fingerprint, nil, err
	}
	a, err := open(home)
	if err != nil {
		return fingerprint, nil, &cli.Error{Err: err, Hints: []string{"outside a team: --fingerprint FINGERPRINT"}}
	}
	defer a.close()
	if a.state == nil {
		return a.member.Fingerprint, nil, nil
	}
	w, err := a.witness()
	if err != nil {
		return fingerprint, nil, err
	}
	if seen := w.Checkpoint(); seen != "" {
		known = append(known, seen)
	}
	return a.member.Fingerprint, known, nil
}

// reportView is a report as JSON.
type reportView struct {
	Team          wire.TeamID   `json:"team"`
	Fingerprint   key.Hash      `json:"fingerprint"`
	Origin        string        `json:"origin"`
	Size          int64         `json:"entries"`
	Root          key.Hash      `json:"root"`
	RosterVersion uint64        `json:"rosterVersion"`
	Machines      int           `json:"machines"`
	Checkpoints   int           `json:"checkpoints"`
	OpenSessions  int           `json:"openSessions"`
	Gaps          int           `json:"gaps"`
	Behind        int           `json:"behind"`
	Findings      []findingView `json:"findings"`
	More          int           `json:"moreFindings"`
}

type findingView struct {
	Entry  int64  `json:"entry"` // -1: the log as a whole
	Last   int64  `json:"last"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

func viewReport(r verify.Report) reportView {
	v := reportView{r.Team, r.Fingerprint, r.Origin, r.Size, r.Root, r.RosterVersion, r.Hosts, r.Checkpoints, r.OpenSessions, r.Gaps, r.Behind, []findingView{}, r.More}
	for _, f := range r.Findings {
		v.Findings = append(v.Findings, findingView{f.Entry, f.Last, string(f.Code), f.Detail})
	}
	return v
}

func printReport(tio *cli.IO, r verify.Report) {
	for _, f := range r.Findings {
		where := "log"
		if f.Entry >= 0 {
			where = fmt.Sprintf("entry %d", f.Entry)
		}
		if f.Last > f.Entry {
			where = fmt.Sprintf("entries %d to %d", f.Entry, f.Last)
		}
		fmt.Fprintf(tio.Out, "%s: %s: %s\n", where, f.Code, terminal.Escape(f.Detail))
	}
	fmt.Fprintf(tio.Out, "%d entries of %d machines, %d checkpoints, roster version %d, root %s\n", r.Size, r.Hosts, r.Checkpoints, r.RosterVersion, r.Root)
	if r.Gaps > 0 {
		fmt.Fprintf(tio.Out, "%d gaps that machines marked themselves, because they were cut off for too long\n", r.Gaps)
	}
	if len(r.Findings) == 0 {
		fmt.Fprintln(tio.Out, "nothing was edited, deleted, inserted, reordered or cut off")
	}
}
