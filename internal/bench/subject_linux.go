package bench

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tucdesk/tucdesk/internal/netlab"
)

// subject is a client that is measured.
type subject struct {
	name string
	// shell prepares a session on a terminal that runs a line of shell; nil if it
	// has none.
	shell func(h *netlab.Host, line string) (*exec.Cmd, error)
	// exec prepares a command without terminal; nil if it has none.
	exec func(h *netlab.Host, argv ...string) *exec.Cmd
	// missing is why it cannot be measured, nil if it can.
	missing error
	login   []string // options of every OpenSSH program that reach the server, but for port and user
}

// sshPort is where our own sshd listens; another one counts on from there.
const sshPort = 2222

// find looks for a peer's program.
func find(name, pkg string) (string, error) {
	for _, dir := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"} {
		if path := filepath.Join(dir, name); exists(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("no program %s: apt-get install %s", name, pkg)
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// ssh is OpenSSH with a server of our own on the target. Options are given to the
// client.
func (s *stage) ssh(name string, options ...string) subject {
	return s.sshAt(sshPort, name, options...)
}

// sshAt is ssh with the server on a port of its own.
func (s *stage) sshAt(number int, name string, options ...string) subject {
	port := strconv.Itoa(number)
	daemon, err := find("sshd", "openssh-server")
	client, err2 := find("ssh", "openssh-client")
	keygen, err3 := find("ssh-keygen", "openssh-client")
	if err := errors.Join(err, err2, err3); err != nil {
		return subject{name: name, missing: err}
	}
	dir := filepath.Join(s.dir, strings.ReplaceAll(name, " ", "-"))
	if err := os.Mkdir(dir, 0o700); err != nil {
		s.Fatalf("%v", err)
	}
	for _, key := range []string{"host", "user"} {
		s.must(exec.CommandContext(s, keygen, "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)))
	}
	s.write(filepath.Join(dir, "config"), fmt.Sprintf(`HostKey %[1]s/host
AuthorizedKeysFile %[1]s/user.pub
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
UsePAM no
UseDNS no
PidFile none
Subsystem sftp internal-sftp
`, dir))
	s.makeRunSSHD()
	s.serve(s.target, "Server listening", clean(), daemon, "-D", "-e", "-f", filepath.Join(dir, "config"), "-p", port)
	host, err := os.ReadFile(filepath.Join(dir, "host.pub"))
	if err != nil {
		s.Fatalf("%v", err)
	}
	s.write(filepath.Join(dir, "known"), fmt.Sprintf("[%s]:%s %s", s.target.IPv4(), port, host))
	login := append([]string{"-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "UserKnownHostsFile=" + filepath.Join(dir, "known"),
		"-i", filepath.Join(dir, "user")}, options...)
	args := append(login[:len(login):len(login)], "-p", port, "-l", "root")
	run := func(h *netlab.Host, args ...string) *exec.Cmd {
		cmd := h.Command(s, client, args...)
		cmd.Env = clean()
		return cmd
	}
	return subject{
		name: name, login: login,
		shell: func(h *netlab.Host, line string) (*exec.Cmd, error) {
			return run(h, append(args[:len(args):len(args)], "-tt", s.target.IPv4().String(), line)...), nil
		},
		exec: func(h *netlab.Host, argv ...string) *exec.Cmd {
			return run(h, append(append(args[:len(args):len(args)], s.target.IPv4().String()), argv...)...)
		},
	}
}

// makeRunSSHD makes the folder that sshd insists on, and takes it away again.
func (s *stage) makeRunSSHD() {
	const dir = "/run/sshd"
	if os.Mkdir(dir, 0o755) == nil {
		s.Cleanup(func() { _ = os.Remove(dir) })
	}
}

// mosh is mosh, its server started by us instead of by ssh.
func (s *stage) mosh(name, predict string) subject {
	server, err := find("mosh-server", "mosh")
	client, err2 := find("mosh-client", "mosh")
	if err := errors.Join(err, err2); err != nil {
		return subject{name: name, missing: err}
	}
	return subject{name: name, shell: func(h *netlab.Host, line string) (*exec.Cmd, error) {
		start := s.target.Command(s, server, "new", "-i", s.target.IPv4().String(), "--", "/bin/sh", "-c", line)
		start.Env = clean()
		out, err := command(start)
		if err != nil {
			return nil, err
		}
		_, after, ok := strings.Cut(out, "MOSH CONNECT ")
		fields := strings.Fields(after)
		if !ok || len(fields) < 2 {
			return nil, fmt.Errorf("mosh-server said %q", firstLine(out))
		}
		cmd := h.Command(s, client, s.target.IPv4().String(), fields[0])
		cmd.Env = clean("MOSH_KEY="+fields[1], "MOSH_PREDICTION_DISPLAY="+predict)
		return cmd, nil
	}}
}

// tucdesk is our own client. Prediction is "never" or "always"; a client without
// the flag predicts nothing.
func (s *stage) tucdesk(name, predict string) subject {
	flags := []string{"-t"}
	if s.team.offers("ssh", "--predict") {
		flags = append(flags, "--predict", predict)
	} else if predict != "never" {
		return subject{name: name, missing: errors.New("this version has no prediction")}
	}
	return subject{
		name: name,
		shell: func(h *netlab.Host, line string) (*exec.Cmd, error) {
			return s.team.client(h, append(append([]string{"ssh"}, flags...), machineName, line)...), nil
		},
		exec: func(h *netlab.Host, argv ...string) *exec.Cmd {
			return s.team.client(h, append([]string{"exec", "-v", machineName, "--"}, argv...)...)
		},
	}
}
