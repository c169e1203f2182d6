package operator

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"

	"github.com/tucdesk/tucdesk/internal/audit/tiles"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/terminal"
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
		Long: "Writes the log, the roster chain and the signed checkpoints as lines of JSON, to standard output, unless that is a\n" +
			"terminal, or to --out, which appears only when it is complete, and never in the place of another file. With --tiles it\n" +
			"becomes a folder in the layout of C2SP tlog-tiles, which generic tools read and any web server can serve. It names\n" +
			"people, machines and commands; it holds no session data. The server asks machines that are connected to cosign the\n" +
			"end of the log, for up to 2 s. This client remembers that end, unless more is written meanwhile, and audit verify\n" +
			"then knows that it is the end.",
		Example: "tucdesk audit export --out acme.audit\ntucdesk audit export | xz > acme.audit.xz\ntucdesk audit export --tiles acme-log",
		Flags: func(f *flag.FlagSet) {
			o.Flags(f)
			f.StringVar(&to.file, "out", "", "new `file` to write")
			f.StringVar(&to.file, "o", "", "")
			f.StringVar(&to.tiles, "tiles", "", "new `folder` to write, as tiles")
		},
		Run: func(ctx context.Context, tio *cli.IO, _ []string) error {
			if f, ok := tio.Out.(*os.File); ok && to == (destination{}) && terminal.IsTerminal(f) {
				return &cli.Error{Err: errors.New("the whole log is no text to read on a terminal"), Hints: []string{"--out FILE"}, Exit: cli.ExitUsage}
			}
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
	if _, err := os.Stat(filepath.Dir(name)); name != "" && err != nil {
		return verb.NotThere(err, filepath.Dir(name), "make that folder first: the export is written beside its new name")
	}
	if err := a.Gossip(ctx); err != nil {
		return err
	}
	seen := verb.NewProgress(tio, name != "")
	defer seen.End()
	seen.Show("waiting for the server, which asks machines to cosign the log")
	log, err := a.Server.AuditExport(ctx, a.Credentials)
	if err != nil {
		return err
	}
	defer log.Close()
	var end lastLine
	if err := to.write(tio.Out, io.TeeReader(seen.Reader(ctx, log, "exported", 0), &end)); err != nil {
		return cmp.Or(ctx.Err(), err)
	}
	seen.End()
	// So that a verification right behind it knows the end. The export is complete: only
	// a server that showed two logs is a reason to say that something is wrong.
	if err := a.GossipOf(ctx, end.entries()); refusal.Of(err) == refusal.AuditFork {
		return err
	}
	if name != "" {
		tio.Say("check it with: tucdesk audit verify %s", name)
	}
	return nil
}

// lastLine keeps the last bytes of an export, which say how many entries it has.
type lastLine struct{ kept []byte }

const maxLastLine = 64 // bytes; fits the line and the newline before it

func (l *lastLine) Write(p []byte) (int, error) {
	both := append(l.kept, p[max(0, len(p)-maxLastLine):]...)
	l.kept = append(l.kept[:0], both[max(0, len(both)-maxLastLine):]...)
	return len(p), nil
}

// entries is how many there are, -1 if the last line does not say it.
func (l *lastLine) entries() int64 {
	text := bytes.TrimSuffix(l.kept, []byte("\n"))
	last := struct{ End int64 }{-1}
	if json.Unmarshal(text[bytes.LastIndexByte(text, '\n')+1:], &last) != nil {
		return -1
	}
	return last.End
}

func (d destination) write(out io.Writer, log io.Reader) error {
	switch {
	case d.tiles != "":
		return writeTiles(d.tiles, log)
	case d.file != "":
		return writeFile(d.file, log)
	}
	_, err := io.Copy(out, log)
	return err
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
