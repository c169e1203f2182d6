package operator

import (
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"

	"github.com/tucdesk/tucdesk/internal/cli"
)

func auditCommand() *cli.Command {
	return &cli.Command{Use: "audit", Short: "Export and verify the team's log", Sub: []*cli.Command{auditExportCommand()}}
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
			f.StringVar(&out, "out", "", "`file` to write")
			f.StringVar(&out, "o", "", "`file` to write")
		},
		Run: func(ctx context.Context, tio *cli.IO, _ []string) error {
			return o.withAccount(ctx, tio, func(a *account) error { return a.export(ctx, tio, out) })
		},
	}
}

func (a *account) export(ctx context.Context, tio *cli.IO, out string) error {
	log, err := a.server.AuditExport(ctx, a.cred)
	if err != nil {
		return err
	}
	defer log.Close()
	if out == "" {
		_, err := io.Copy(tio.Out, log)
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(out), ".tucdesk-export-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // after the rename there is nothing left to remove
	n, err := io.Copy(f, log)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), out); err != nil {
		return err
	}
	tio.Say("%s: %d bytes; check it with: tucdesk audit verify %s", out, n, out)
	return nil
}
