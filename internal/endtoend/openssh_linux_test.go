package endtoend

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tucdesk/tucdesk/internal/programtest"
)

// needsSSH finds this machine's ssh.
func needsSSH(t testing.TB) (path string) {
	t.Helper()
	path, err := exec.LookPath("ssh")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("ssh is missing: apt-get install openssh-client")
		}
		t.Skip("ssh is missing: apt-get install openssh-client")
	}
	return path
}

// openSSH is ssh for a person, with what "tucdesk ssh-config" prints.
func (p *person) openSSH(args ...string) *exec.Cmd {
	p.w.t.Helper()
	block := filepath.Join(p.home, "ssh-config")
	write(p.w.t, block, p.run("ssh-config").is(p.w.t, 0).out)
	return p.bareSSH(append([]string{"-F", block}, args...)...)
}

// bareSSH is ssh that was told of nothing.
func (p *person) bareSSH(args ...string) *exec.Cmd {
	p.w.t.Helper()
	cmd := exec.Command(needsSSH(p.w.t), append([]string{"-o", "BatchMode=yes"}, args...)...)
	cmd.Env = cleanEnv("XDG_STATE_HOME=" + p.home)
	return cmd
}

// ssh asks for -R once and never again, so the front has to.
func TestOpenSSHsListenersComeBackAfterTheAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withForwards)
	web := w.agent("web", "web")
	port, remote, cancelled := echo(t), programtest.Port(t), programtest.Port(t)
	control := filepath.Join(w.ann.home, "c")
	p := launch(t, w.ann.openSSH("-M", "-S", control, "-N", "-R", remote+":127.0.0.1:"+port, "-R", cancelled+":127.0.0.1:"+port, "web.tucdesk"))
	works := func(port string) bool { text, err := fetch(port); return err == nil && text == "hello" }
	eventually(t, "the forwards work", func() bool { return works(remote) && works(cancelled) })
	for i := 1; i <= 2; i++ { // the session that was opened again is lost as well
		web.proc.stop()
		p.says("tucdesk: web listens for -R no more: ", i)
		if i == 1 {
			launch(t, w.ann.openSSH("-S", control, "-O", "cancel", "-R", cancelled+":127.0.0.1:"+port, "web.tucdesk")).finish().is(t, 0)
		}
		web.start()
		eventually(t, "the forward works again", func() bool { return works(remote) })
		p.says("tucdesk: web listens at localhost:"+remote+" again after ", i)
	}
	if _, err := fetch(cancelled); err == nil || strings.Contains(p.err.String(), ":"+cancelled+" again") {
		t.Errorf("what was cancelled meanwhile is listened at again:\n%s", p.err.String())
	}
}

// What nobody gives again is said, so that no ssh stays for a port that nobody has.
func TestOpenSSHsListenersThatCannotBeHadAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withForwards)
	web := w.agent("web", "web")
	port, remote := echo(t), programtest.Port(t)
	p := launch(t, w.ann.openSSH("-N", "-R", remote+":127.0.0.1:"+port, "web.tucdesk"))
	eventually(t, "the forward works", func() bool { text, err := fetch(remote); return err == nil && text == "hello" })
	web.proc.stop()
	p.says("tucdesk: web listens for -R no more: ", 1)
	write(t, w.path("policy.toml"), rules)
	w.ann.owner("policy", "publish", w.path("policy.toml")).is(t, 0)
	web.start()
	p.says("tucdesk: web listens at localhost:"+remote+" no more, and is not asked again", 1)
	p.says("error: policy_denied", 1)
}

// ssh's keep-alives are answered on this machine, so the front has to say that nothing
// gets through: for a program, and for what has none.
func TestLostWayIsToldThroughOpenSSH(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withForwards)
	web := w.agent("web", "web")
	port := programtest.Port(t)
	for name, cmd := range map[string]*exec.Cmd{
		"a program through ssh": w.ann.openSSH("-o", "ServerAliveInterval=2", "web.tucdesk", "echo begun; exec cat"),
		"a forward through ssh": w.ann.openSSH("-N", "-R", port+":127.0.0.1:1", "web.tucdesk"),
		"tucdesk ssh -N":        w.ann.cmd("ssh", "-N", "-R", port+":127.0.0.1:1", "web"),
	} {
		t.Run(name, func(t *testing.T) {
			keys := must(cmd.StdinPipe())
			p := launch(t, cmd)
			eventually(t, "it to stand", func() bool {
				if strings.HasPrefix(name, "a program") {
					return p.out.String() == "begun\n"
				}
				_, err := fetch(port)
				return err == nil
			})
			worker := web.session()
			if err := syscall.Kill(worker, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			defer syscall.Kill(worker, syscall.SIGCONT)
			_, _ = keys.Write([]byte("kept\n"))
			p.says("tucdesk: no way to web for 3s; what is sent is kept; it waits up to 24h", 1)
			if err := syscall.Kill(worker, syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			p.says("tucdesk: there is a way to web again after ", 1)
			_ = keys.Close()
			p.stop()
			eventually(t, "its session to end", func() bool { return syscall.Kill(worker, 0) != nil })
		})
	}
}

// With --names a machine's name leads to it also behind -J, where the machine in front
// would look it up in a DNS that is not ours.
func TestOpenSSHJumpsToBareNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withForwards)
	w.agent("web", "web")
	w.agent("db", "web")
	w.ann.run("ls").is(t, 0)
	block := w.path("names")
	write(t, block, w.ann.run("ssh-config", "--names").is(t, 0).out)
	for _, jump := range [][]string{{}, {"-J", "db"}} {
		a := launch(t, w.ann.bareSSH(append(append([]string{"-F", block}, jump...), "web", "echo there")...)).finish().is(t, 0)
		if a.out != "there\n" {
			t.Errorf("%q prints %q", jump, a.out)
		}
	}
}

// The example of the help is complete, and less than that says what is missing.
func TestProxyByHand(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.agent("web", "web")
	tucdesk := program(t, "tucdesk")
	ssh := func(args ...string) answer {
		return launch(t, w.ann.bareSSH(append([]string{"-F", "/dev/null", "-o", "ProxyCommand=" + tucdesk + " proxy %h"}, args...)...)).finish()
	}
	a := ssh("web.tucdesk", "echo there").is(t, 255)
	if !strings.Contains(a.err, "Host key verification failed") || !strings.Contains(a.err, "hint: where ssh says that it cannot verify the host key") || !strings.Contains(a.err, "tucdesk ssh-config --install") {
		t.Errorf("said %q", a.err)
	}
	if a := ssh("-o", "KnownHostsCommand="+tucdesk+" ssh-config --known-hosts %H", "-l", "@agent", "web.tucdesk", "echo there").is(t, 0); a.out != "there\n" {
		t.Errorf("printed %q", a.out)
	}
	if a := ssh("-o", "KnownHostsCommand="+tucdesk+" ssh-config --known-hosts %H", "-l", "@agent", "-s", "web.tucdesk", "netconf"); a.code == 0 || !strings.Contains(a.err, "sftp is the only one") {
		t.Errorf("another subsystem: status %d, said %q", a.code, a.err)
	}
}

// Variables that the policy allows go along, others stay here without a word: git has
// its ssh send one.
func TestSendEnvGoesByThePolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.agent("web", "web")
	cmd := w.ann.cmd("ssh", "-o", "SendEnv=GREET* GIT_PROTOCOL", "web", "echo $GREETING $GIT_PROTOCOL")
	cmd.Env = append(cmd.Env, "GREETING=hello", "GIT_PROTOCOL=version=2")
	if a := launch(t, cmd).finish().is(t, 0); a.out != "hello\n" || a.err != "" {
		t.Errorf("printed %q, said %q", a.out, a.err)
	}
}
