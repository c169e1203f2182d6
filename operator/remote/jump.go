package remote

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tucdesk/tucdesk/internal/cli"
)

// knows reports whether HOST is a machine of the team, as seen last: no jump leads
// nearer to it.
func (o *sshOptions) knows(arg string) (bool, error) {
	a, err := o.OpenAccount()
	if err != nil {
		return false, err
	}
	defer a.Close()
	var user string
	name := target(&user, arg)
	return a.State != nil && slices.Contains(a.KnownNames(name), name), nil
}

// throughJump has this computer's ssh speak with the sshd of a host that is no
// machine of ours. The machine JUMP connects to it, under the policy's rules for
// forwards, and sees sealed SSH alone.
func (o *sshOptions) throughJump(ctx context.Context, tio *cli.IO, dest, command string) error {
	if strings.Contains(o.jump, ",") {
		return usage("through several: tucdesk ssh-config --install, then ssh -J with the team's machines as NAME.tucdesk; machines of the team need none in front of them",
			"-J %q: one machine of the team, and HOST behind it", o.jump)
	}
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		return &cli.Error{Err: fmt.Errorf("-J needs the ssh of this computer: %w", err), Hints: []string{"install an OpenSSH client"}}
	}
	proxy, err := o.proxyCommand()
	if err != nil {
		return err
	}
	args := append([]string{"-o", "ProxyCommand=" + proxy}, o.letters()...)
	args = append(args, "--", dest)
	if command != "" {
		args = append(args, command)
	}
	cmd := exec.CommandContext(ctx, ssh, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tio.In, tio.Out, tio.Err
	err = cmd.Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) && exit.ExitCode() >= 0 {
		return cli.Status(exit.ExitCode())
	}
	return err
}

// proxyCommand is this program, with -W to what ssh calls %h and %p.
func (o *sshOptions) proxyCommand() (string, error) {
	program, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding this program's own path: %v", err)
	}
	home, err := o.Home()
	if err != nil {
		return "", err
	}
	state, err := filepath.Abs(home.Dir)
	if err != nil {
		return "", fmt.Errorf("finding folder %q: %v", home.Dir, err)
	}
	words := []string{program, "ssh", "--state", state}
	if o.reason != "" {
		words = append(words, "--reason", o.reason)
	}
	for i, w := range append(words, "--", o.jump) {
		quoted := "'" + strings.ReplaceAll(strings.ReplaceAll(w, "'", `'\''`), "%", "%%") + "'"
		if i == 0 {
			words = words[:0]
		}
		words = append(words, quoted)
	}
	at := len(words) - 2 // -W before the dashes
	return strings.Join(slices.Insert(words, at, "-W", "'[%h]:%p'"), " "), nil
}

// letters are what was given, for ssh itself.
func (o *sshOptions) letters() (args []string) {
	for _, s := range []struct {
		letter string
		on     bool
	}{
		{"-N", o.noCommand}, {"-f", o.background}, {"-n", o.noStdin}, {"-q", o.quiet}, {"-A", o.agent}, {"-T", o.noTTY},
		{"-t", o.tty > 0}, {"-t", o.tty > 1}, {"-g", o.gateway}, {"-v", o.talk},
	} {
		if s.on {
			args = append(args, s.letter)
		}
	}
	for _, g := range o.foreign {
		args = append(args, g.words()...)
	}
	add := func(letter string, values ...string) {
		for _, v := range values {
			if v != "" {
				args = append(args, letter, v)
			}
		}
	}
	add("-l", o.user)
	add("-p", o.port)
	add("-W", o.stdio)
	add("-e", o.escape)
	add("-i", o.identity...)
	add("-L", o.local...)
	add("-R", o.remote...)
	add("-D", o.dynamic...)
	for _, text := range o.set {
		if name, _, _ := strings.Cut(strings.ToLower(text), "="); strings.TrimSpace(name) != "proxyjump" {
			add("-o", text)
		}
	}
	return args
}
