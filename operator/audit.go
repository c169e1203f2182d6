package operator

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/tiles"
	"github.com/tucdesk/tucdesk/internal/audit/verify"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/verb"
)

func auditCommand() *cli.Command {
	return &cli.Command{Use: "audit", Short: "Export and verify the team's log", Sub: []*cli.Command{auditExportCommand(), auditVerifyCommand()}}
}

func auditExportCommand() *cli.Command {
	var o verb.Options
	var to destination
	return &cli.Command{
		Use: "export", Short: "Fetch the whole log with everything needed to check it offline",
		Long: "Writes the log, the roster chain and the signed checkpoints as lines of JSON, to standard output or to --out, which\n" +
			"appears only when it is complete. With --tiles it becomes a folder in the layout of C2SP tlog-tiles, which generic tools\n" +
			"read and any web server can serve. It names people, machines and commands; it holds no session data.",
		Example: "tucdesk audit export --out acme.audit\ntucdesk audit export | xz > acme.audit.xz\ntucdesk audit export --tiles acme-log",
		Flags: func(f *flag.FlagSet) {
			o.Flags(f)
			f.StringVar(&to.file, "out", "", "new `file` to write")
			f.StringVar(&to.file, "o", "", "")
			f.StringVar(&to.tiles, "tiles", "", "new `folder` to write, as tiles")
		},
		Run: func(ctx context.Context, tio *cli.IO, _ []string) error {
			return o.WithAccount(ctx, tio, func(a *account.Account) error { return exportLog(ctx, a, tio, to) })
		},
	}
}

// destination is where an export goes; standard output, unless one of them is set.
type destination struct{ file, tiles string }

func exportLog(ctx context.Context, a *account.Account, tio *cli.IO, to destination) error {
	if to.file != "" && to.tiles != "" {
		return &cli.Error{Err: errors.New("--out and --tiles exclude each other"), Exit: cli.ExitUsage}
	}
	name := to.file + to.tiles
	if _, err := os.Lstat(name); name != "" && err == nil { // before a long transfer; newFile has the last word
		return verb.Exists(name)
	}
	if err := a.Gossip(ctx); err != nil {
		return err
	}
	log, err := a.Server.AuditExport(ctx, a.Credentials)
	if err != nil {
		return err
	}
	defer log.Close()
	switch {
	case to.tiles != "":
		err = writeTiles(to.tiles, log)
	case to.file != "":
		err = writeFile(to.file, log)
	default:
		_, err := io.Copy(tio.Out, log)
		return err
	}
	if err != nil {
		return err
	}
	tio.Say("check it with: tucdesk audit verify %s", name)
	return nil
}

// writeFile makes the file appear when it is complete.
func writeFile(name string, log io.Reader) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".tucdesk-export-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = io.Copy(f, log)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return newFile(f.Name(), name)
}

// writeTiles makes the folder appear when it is complete.
func writeTiles(name string, log io.Reader) error {
	dir, err := os.MkdirTemp(filepath.Dir(name), ".tucdesk-export-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	whole := filepath.Join(dir, "log")
	if err := tiles.Write(whole, log); err != nil {
		return err
	}
	return newFile(whole, name)
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
		return verb.Exists(name)
	}
	return os.Rename(complete, name)
}

type auditVerify struct {
	verb.Options
	fingerprint string
	cosigners   int
}

func auditVerifyCommand() *cli.Command {
	var o auditVerify
	return &cli.Command{
		Use: "verify EXPORT", Short: "Check an exported log offline",
		Long: "Checks EXPORT, a file (\"-\" is standard input) or a folder of tiles, with nothing but the team's fingerprint: the roster\n" +
			"chain, every signature, the tree's root over all entries, each machine's own chain, and that each risky command had its\n" +
			"approvals. Names every entry that was edited, deleted, inserted, reordered or cut off, and exits 1 when there is one. On\n" +
			"a member's machine the fingerprint and the newest checkpoint that this client has seen are taken from the state folder.\n" +
			"Counts the machines and people who cosigned each checkpoint, which the server cannot do in their place.",
		Example: "tucdesk audit verify acme.audit\ntucdesk audit verify --fingerprint 9f86d081... acme.audit\nxzcat acme.audit.xz | tucdesk audit verify --json -\ntucdesk audit verify --cosigners 3 acme-log",
		MinArgs: 1, MaxArgs: 1,
		Flags: func(f *flag.FlagSet) {
			o.JSONFlag(f)
			f.StringVar(&o.fingerprint, "fingerprint", "", "the team's `fingerprint`, 64 hex digits (default: of this operator's team)")
			f.IntVar(&o.cosigners, "cosigners", 0, "`number` of machines and people who must have cosigned the newest checkpoint")
		},
		Run: func(_ context.Context, tio *cli.IO, args []string) error { return o.run(tio, args[0]) },
	}
}

func (o *auditVerify) run(tio *cli.IO, name string) error {
	fingerprint, known, err := o.pins()
	if err != nil {
		return err
	}
	report, err := verifyExport(tio, name, fingerprint, known)
	if err != nil {
		return fmt.Errorf("verifying %q: %w", name, err)
	}
	if o.JSON {
		err = tio.PrintJSON(viewReport(report))
	} else {
		printReport(tio, report)
	}
	if n := len(report.Findings) + report.More; err == nil && n > 0 {
		return &cli.Error{Err: fmt.Errorf("%d findings: this log was tampered with or is not whole", n), Exit: cli.ExitFailed, Hints: []string{"keep the file; show it to an owner"}}
	}
	if err == nil && report.Cosigners < o.cosigners {
		return &cli.Error{Err: fmt.Errorf("%d have cosigned the newest checkpoint, not %d", report.Cosigners, o.cosigners), Exit: cli.ExitFailed,
			Hints: []string{"export again while machines are connected: they are asked for it"}}
	}
	return err
}

// verifyExport reads standard input, a file or a folder of tiles.
func verifyExport(tio *cli.IO, name string, fingerprint key.Hash, known []string) (verify.Report, error) {
	if name == "-" {
		return verify.Export(tio.In, fingerprint, time.Now(), known...)
	}
	f, err := os.Open(name)
	if err != nil {
		return verify.Report{}, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return verify.Tiles(name, fingerprint, time.Now(), known...)
	}
	return verify.Export(f, fingerprint, time.Now(), known...)
}

// pins are the fingerprint, and the checkpoint that this operator remembers.
func (o *auditVerify) pins() (fingerprint key.Hash, known []string, err error) {
	if o.fingerprint != "" {
		fingerprint, err = key.ParseID(o.fingerprint)
		return fingerprint, nil, err
	}
	home, err := o.Home()
	if err != nil {
		return fingerprint, nil, err
	}
	a, err := account.Open(home)
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
	Team          wire.TeamID    `json:"team"`
	Fingerprint   key.Hash       `json:"fingerprint"`
	Origin        string         `json:"origin"`
	Size          int64          `json:"entries"`
	Root          key.Hash       `json:"root"`
	RosterVersion uint64         `json:"rosterVersion"`
	Machines      int            `json:"machines"`
	Checkpoints   int            `json:"checkpoints"`
	Cosigners     int            `json:"cosigners"` // of the newest checkpoint
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

type findingView struct {
	Entry  int64  `json:"entry"` // -1: the log as a whole
	Last   int64  `json:"last"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

func viewReport(r verify.Report) reportView {
	v := reportView{r.Team, r.Fingerprint, r.Origin, r.Size, r.Root, r.RosterVersion, r.Hosts, r.Checkpoints, r.Cosigners, []cosignedView{},
		r.OpenSessions, r.Gaps, r.Behind, []findingView{}, r.More}
	for _, c := range r.Cosigned {
		v.Cosigned = append(v.Cosigned, cosignedView(c))
	}
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
	fmt.Fprintf(tio.Out, "%d have cosigned the newest checkpoint, somebody %d of %d checkpoints\n", r.Cosigners, len(r.Cosigned), r.Checkpoints)
	if r.Gaps > 0 {
		fmt.Fprintf(tio.Out, "%d gaps that machines marked themselves, because they were cut off for too long\n", r.Gaps)
	}
	if len(r.Findings) == 0 {
		fmt.Fprintln(tio.Out, "nothing was edited, deleted, inserted, reordered or cut off")
	}
}
