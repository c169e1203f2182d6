package sshconfig

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/sshfront"
	"github.com/tucdesk/tucdesk/operator/verb"
)

// options are the flags of ssh-config.
type options struct {
	verb.Options
	install    bool
	uninstall  bool
	names      bool
	knownHosts string
}

// Command is the verb ssh-config.
func Command() *cli.Command {
	var o options
	return &cli.Command{
		Use: "ssh-config", Short: "Make ssh, scp, rsync and git reach the team's machines",
		Long: "Prints the block that makes OpenSSH go through \"tucdesk proxy\" for HOST.tucdesk. With --install, writes it to\n" +
			"~/.ssh/config.d/tucdesk and has ~/.ssh/config include that file, once, in its first line. A Host block of your own\n" +
			"above that line wins over ours, for example to set another User for one machine.",
		Example: "tucdesk ssh-config --install\nssh web.tucdesk uptime\nrsync -a site/ deploy@web.tucdesk:/srv/site/\ntucdesk ssh-config --uninstall",
		MaxArgs: 0,
		Flags: func(f *flag.FlagSet) {
			o.Options.Flags(f)
			f.BoolVar(&o.install, "install", false, "write the block and include it")
			f.BoolVar(&o.uninstall, "uninstall", false, "take back what --install did")
			f.BoolVar(&o.names, "names", false, "also take the bare names of the machines seen last, those without a dot")
			f.StringVar(&o.knownHosts, "known-hosts", "", "print the host key for `name`, as KnownHostsCommand wants it")
		},
		Run: func(_ context.Context, tio *cli.IO, _ []string) error { return o.run(tio) },
	}
}

func (o *options) run(tio *cli.IO) error {
	home, err := o.Home()
	if err != nil {
		return err
	}
	switch {
	case o.knownHosts != "":
		return o.printKnownHost(tio, home)
	case o.install && o.uninstall:
		return &cli.Error{Err: refusal.New(refusal.BadArgument, "--install and --uninstall at once"), Exit: cli.ExitUsage}
	case o.uninstall:
		return remove(tio)
	}
	text, err := o.text(home)
	if err != nil || !o.install {
		_, _ = tio.Out.Write([]byte(text))
		return err
	}
	// Without a team there is nothing that ssh could reach, nor a folder for the key.
	if _, err := home.Membership(); err != nil {
		return err
	}
	f, err := sshFolder()
	if err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	if _, err := sshfront.HostKey(home.Path(sshfront.HostKeyFile)); err != nil {
		return err
	}
	if err := f.install(text); err != nil {
		return err
	}
	for line := range strings.SplitSeq(f.installed(accountFolder()), "\n") {
		tio.Say("%s", line)
	}
	return nil
}

// remove takes back what --install did.
func remove(tio *cli.IO) error {
	f, err := sshFolder()
	if err != nil {
		return err
	}
	found, err := f.uninstall()
	switch {
	case err != nil:
		return err
	case found:
		tio.Say("removed %q, and the line in %q that included it", f.dropIn(), f.config())
	default:
		tio.Say("nothing to remove: neither %q is there, nor a line in %q that includes it", f.dropIn(), f.config())
	}
	return nil
}

// printKnownHost answers ssh. ssh asks before the proxy has made a key as well,
// only to put its algorithms in order; then there is nothing to say yet.
func (o *options) printKnownHost(tio *cli.IO, home account.Home) error {
	key, err := sshfront.LoadHostKey(home.Path(sshfront.HostKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if line, ok := sshfront.KnownHost(o.knownHosts, key.PublicKey()); ok {
		_, err = tio.Out.Write([]byte(line))
	}
	return err
}

func (o *options) text(home account.Home) (string, error) {
	program, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding this program's own path: %v", err)
	}
	b := block{program: program}
	if usual, err := account.DefaultDir(); err != nil || usual != home.Dir {
		if b.state, err = filepath.Abs(home.Dir); err != nil {
			return "", fmt.Errorf("finding folder %q: %v", home.Dir, err)
		}
	}
	for _, path := range []string{b.program, b.state} {
		if !quotable(path) {
			return "", refusal.New(refusal.BadArgument, "the path %q cannot be written into ssh's configuration", path)
		}
	}
	if !o.names {
		return b.String(), nil
	}
	a, err := o.OpenAccount()
	if err != nil {
		return "", err
	}
	defer a.Close()
	b.names = bare(a.KnownNames(""))
	return b.String(), nil
}

// accountFolder is ~/.ssh as OpenSSH finds it: by the home in the list of accounts,
// whatever $HOME says. It is "" where that list has no answer, and on Windows, where
// there is one home only.
func accountFolder() folder {
	me, err := user.Current()
	if err != nil || me.HomeDir == "" || runtime.GOOS == "windows" {
		return ""
	}
	return folder(filepath.Join(me.HomeDir, ".ssh"))
}

// sshFolder is ~/.ssh by $HOME, as every other program has it.
func sshFolder() (folder, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding ~/.ssh: %v", err)
	}
	return folder(filepath.Join(home, ".ssh")), nil
}
