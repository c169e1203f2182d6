package agent

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/agent/process"
	"github.com/tucdesk/tucdesk/agent/utmp"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

const (
	insideEnv = "TUCDESK_TEST_INSIDE"
	loginUser = "tdtester"
)

// inside runs a test again as a process that sees files of its own under /etc, /run
// and /var/log: users, login records and sshd's folder are the test's. It returns
// whether this is that process.
func inside(t *testing.T, programs ...string) bool {
	t.Helper()
	if os.Getenv(insideEnv) == t.Name() {
		private(t)
		return true
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil || os.Geteuid() != 0 {
			if os.Getenv("CI") == "true" {
				t.Fatalf("this test wants root and %s", p)
			}
			t.Skipf("this test wants root and %s: apt-get install openssh-server openssh-client util-linux", p)
		}
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), insideEnv+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // its end would be the child's, and agents beside this test end threads
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if testing.Verbose() {
		t.Logf("%s", out)
	}
	return false
}

// private gives this process the machine that the test wants.
func private(t *testing.T) {
	t.Helper()
	mount := func(source, target, kind string, flags uintptr) {
		if err := syscall.Mount(source, target, kind, flags, ""); err != nil {
			t.Fatalf("mounting %s: %v", target, err)
		}
	}
	dir := t.TempDir()
	_ = os.Chmod(filepath.Dir(dir), 0o755)
	_ = os.Chmod(dir, 0o755)
	mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE)
	replace := func(path, text string, mode os.FileMode) {
		own := filepath.Join(dir, strings.ReplaceAll(path, "/", "_"))
		if err := os.WriteFile(own, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); err == nil {
			mount(own, path, "", syscall.MS_BIND)
		}
	}
	old := func(path string) string { return string(must(os.ReadFile(path))) }
	home := filepath.Join(dir, "home")
	if err := os.Mkdir(home, 0o755); err != nil {
		t.Fatal(err)
	}
	_ = os.Chown(home, 54321, 54321)
	replace("/etc/passwd", old("/etc/passwd")+loginUser+":x:54321:54321::"+home+":/bin/bash\n", 0o644)
	replace("/etc/shadow", old("/etc/shadow")+loginUser+":*:20000:0:99999:7:::\n", 0o600)
	replace("/etc/group", old("/etc/group")+loginUser+":x:54321:\ntdextra:x:54322:"+loginUser+"\n", 0o644)
	replace("/etc/environment", "FROM_ENVIRONMENT=\"yes it is\"\n", 0o644)
	replace("/var/log/wtmp", "", 0o644)
	replace("/var/log/lastlog", "", 0o644)
	replace("/etc/security/limits.conf", loginUser+" - nofile 4321\n", 0o644)
	mount("tmpfs", "/run", "tmpfs", 0)
	for _, d := range []string{"/run/sshd", "/run/lock"} {
		_ = os.Mkdir(d, 0o755)
	}
	if err := os.WriteFile("/run/utmp", nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// look is what a login writes down about itself. It waits for the records of itself, which
// the agent makes of a program that runs already: of the three files in this order.
const look = `D=%s; T=$(tty); timeout 30 sh -c 'until who | grep -q ^tdtester && last -w | grep -q "^tdtester.*still logged in" && ! lastlog -u tdtester | grep -q "Never logged in"; do :; done'; id > $D/id; env | sed "s|^SSH_TTY=$T\$|SSH_TTY=its own|" > $D/env; ulimit -a > $D/limit; ulimit -Ha > $D/hard; cat /proc/self/loginuid > $D/loginuid; umask > $D/umask; pwd > $D/pwd; ` +
	`who > $D/who; last -w > $D/last; lastlog -u tdtester > $D/lastlog; stat -c '%%U %%G' $(tty) > $D/tty; ps -o tty= -o sid= -p $$ > $D/ps; echo done`

// loginPolicy lets operators be the test's user.
var loginPolicy = strings.Replace(openPolicy, `"1000"`, `"1000", "`+loginUser+`"`, 1)

// bySSH logs in by a real sshd.
func bySSH(t *testing.T, line string) {
	t.Helper()
	dir := t.TempDir()
	run := func(name string, args ...string) string {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	for _, k := range []string{"host", "user"} {
		run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, k))
	}
	_ = os.Chmod(dir, 0o755)
	_ = os.Chmod(filepath.Dir(dir), 0o755)
	_ = os.Chmod(filepath.Join(dir, "user.pub"), 0o644)
	l := must(net.Listen("tcp", net.JoinHostPort(ownLoopback(), "0")))
	addr := l.Addr().String()
	host, port, _ := net.SplitHostPort(addr)
	_ = l.Close()
	config := fmt.Sprintf("Port %s\nListenAddress %s\nHostKey %s/host\nAuthorizedKeysFile %s/user.pub\nStrictModes no\nUsePAM yes\nPidFile none\n", port, host, dir, dir)
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	sshd := exec.Command(must(exec.LookPath("sshd")), "-D", "-e", "-f", filepath.Join(dir, "config"))
	sshd.Stderr, sshd.SysProcAttr = &said, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // as in inside
	defer runtime.UnlockOSThread()
	sshd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	if err := sshd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = sshd.Process.Kill()
		_ = sshd.Wait()
	}()
	until(t, "sshd to listen", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	ssh := exec.Command("ssh", "-F", "none", "-tt", "-i", filepath.Join(dir, "user"), "-p", port, "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", loginUser+"@"+host, line)
	ssh.Env = []string{"TERM=xterm", "HOME=" + dir, "PATH=/usr/bin:/bin"}
	if out, err := ssh.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("done")) {
		t.Fatalf("%v\n%s\n%s", err, out, &said)
	}
	until(t, "sshd to write down the end", func() bool { return who() == "" })
}

// who is what who(1) says of the machine that inside has made.
func who() string { return string(must(exec.Command("who", "/run/utmp").Output())) }

// byAgent logs in by an agent.
func byAgent(t *testing.T, pam bool, line string) {
	t.Helper()
	k := newTeam(t, loginPolicy)
	k.startRelay()
	a := must(Open(k.join(), Config{PAM: pam}))
	defer stop(a)
	s := k.mustSit(a, func(r *wire.Request) {
		argv(line)(r)
		r.Action, r.Params.TTY, r.Params.User = wire.Shell, true, loginUser
	})
	s.shows("done")
	if exit, err := s.ch.Wait(); err != nil || exit.Status != 0 {
		t.Fatalf("%+v, %v", exit, err)
	}
}

// seen is a login's own account of itself.
type seen map[string][]string

func see(t *testing.T, log func(line string)) seen {
	t.Helper()
	dir := filepath.Join("/run", rand.Text())
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	_ = os.Chmod(dir, 0o777)
	if err := os.Truncate("/var/log/lastlog", 0); err != nil { // or it has what was there before
		t.Fatal(err)
	}
	log(fmt.Sprintf(look, dir))
	s := seen{}
	for _, e := range must(os.ReadDir(dir)) {
		text := string(must(os.ReadFile(filepath.Join(dir, e.Name()))))
		s[e.Name()] = strings.Split(strings.TrimRight(text, "\n"), "\n")
	}
	return s
}

// differences are the lines of one that the other does not have: "-" of sshd, "+" ours.
func differences(theirs, ours []string) (list []string) {
	for _, l := range theirs {
		if !slices.Contains(ours, l) {
			list = append(list, "-"+l)
		}
	}
	for _, l := range ours {
		if !slices.Contains(theirs, l) {
			list = append(list, "+"+l)
		}
	}
	slices.Sort(list)
	return list
}

// TestLoginLooksLikeSSHs: the same user logs in by sshd and by the agent, on the same
// machine, and both are asked the same. What differs is listed here, and nothing else may.
func TestLoginLooksLikeSSHs(t *testing.T) {
	t.Parallel()
	if !inside(t, "sshd", "ssh", "ssh-keygen", "who", "last", "lastlog", "runuser") {
		return
	}
	ssh := see(t, func(line string) { bySSH(t, line) })
	plain := see(t, func(line string) { byAgent(t, false, line) })
	pam := see(t, func(line string) { byAgent(t, true, line) })
	variables := []string{"+LANG=C.UTF-8", "+PATH", "+SSH_CONNECTION=UNKNOWN 65535 UNKNOWN 65535", "-MOTD_SHOWN", "-PATH", "-SSH_CLIENT=", "-SSH_CONNECTION="}
	for name, c := range map[string]struct {
		seen
		differs map[string][]string
	}{
		"with PAM": {pam, map[string][]string{"env": variables, "hard": {"+core file size", "-core file size"}}},
		"plain": {plain, map[string][]string{
			"env": variables, "limit": {"+open files", "-open files"}, "hard": {"+core file size", "+open files", "-core file size", "-open files"},
		}},
	} {
		for _, what := range []string{"id", "pwd", "umask", "loginuid", "tty", "env", "limit", "hard"} {
			got := differences(ssh[what], c.seen[what])
			want := c.differs[what]
			if what == "tty" && !ttyGroup(t) {
				want = []string{"+" + loginUser + " " + loginUser, "-" + loginUser + " tty"} // this machine's devpts gives terminals no group, sshd does
			}
			if !slices.EqualFunc(got, want, func(line, begins string) bool { return strings.HasPrefix(line, begins) }) {
				t.Errorf("%s: %s differs by %q, want %q", name, what, got, want)
			}
		}
		if line := c.seen["who"][0]; !strings.HasPrefix(line, loginUser+" pts/") || !strings.HasSuffix(line, " (tucdesk:ann@example.com)") {
			t.Errorf("%s: who says %q; of sshd %q", name, line, ssh["who"])
		}
		if line := c.seen["last"][0]; !strings.HasPrefix(line, loginUser+" pts/") || !strings.Contains(line, "still logged in") {
			t.Errorf("%s: last says %q; of sshd %q", name, line, ssh["last"])
		}
		if line := c.seen["lastlog"][1]; !strings.HasPrefix(line, loginUser) || !strings.Contains(line, "tucdesk:ann@example.com") {
			t.Errorf("%s: lastlog says %q; of sshd %q", name, line, ssh["lastlog"])
		}
	}
	if out := who(); out != "" {
		t.Errorf("at the end who says %s", out)
	}
}

// ttyGroup reports whether terminals belong to the group tty from their beginning.
func ttyGroup(t *testing.T) bool {
	t.Helper()
	for line := range strings.Lines(string(must(os.ReadFile("/proc/mounts")))) {
		if f := strings.Fields(line); len(f) > 3 && f[1] == "/dev/pts" {
			return strings.Contains(f[3], "gid=5")
		}
	}
	return false
}

// TestH7SessionRunsAsTheUserWithItsGroupsOnly: on users of its own. A useradd on the
// machine itself would put another /etc/passwd in the place of the one that the tests
// beside this one have covered, and uncover it.
func TestH7SessionRunsAsTheUserWithItsGroupsOnly(t *testing.T) {
	t.Parallel()
	if !inside(t, "id") {
		return
	}
	k := newTeam(t, strings.Replace(openPolicy, `"nobody"`, fmt.Sprintf("%q", loginUser), 1))
	k.startRelay()
	a := k.agent()
	want := string(must(exec.Command("id", loginUser).Output()))
	home := must(process.LookUp(loginUser)).Home
	out, _, exit, err := k.askFor(a, "ann", func(r *wire.Request) {
		argv("sh", "-c", "id; pwd; echo $HOME $USER; ls -l /proc/$PPID/fd >/dev/null 2>&1 && echo sees its parent")(r)
		r.Params.User = loginUser
	}).exec("")
	if err != nil || exit.Status == 0 || out != want+home+"\n"+home+" "+loginUser+"\n" {
		t.Errorf("%q, want %q; %+v, %v", out, want, exit, err)
	}
	if !strings.Contains(want, "(tdextra)") {
		t.Errorf("the user has one group only: %q", want)
	}
	k.askFor(a, "ann", func(r *wire.Request) { r.Params.User = "nobody" }).wantRefusal(refusal.UserNotAllowed)
}

// TestLoginRecordEndsWhateverEndsTheSession: also when session process or agent are
// killed.
func TestLoginRecordEndsWhateverEndsTheSession(t *testing.T) {
	t.Parallel()
	if !inside(t, "who", "last") {
		return
	}
	k := newTeam(t, loginPolicy)
	k.startRelay()
	dir := k.join()
	a := must(Open(dir, Config{}))
	s := k.mustSit(a, func(r *wire.Request) {
		argv("echo pid $$; sleep 1000")(r)
		r.Action, r.Params.TTY, r.Params.User = wire.Shell, true, loginUser
	})
	pid := pidIn(t, s)
	until(t, "who to know of a login", func() bool {
		return strings.Contains(who(), loginUser) && strings.Contains(who(), "(tucdesk:ann@example.com)")
	})
	if err := syscall.Kill(parentOf(t, pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "nobody to be logged in", func() bool { return who() == "" })
	until(t, "the session to end", func() bool { return a.sessions.count() == 0 })
	if out := string(must(exec.Command("last", "-w").Output())); !strings.Contains(out, loginUser) || strings.Contains(out, "still logged in") || strings.Contains(out, "gone") {
		t.Errorf("last says %q", out)
	}
	s = k.mustSit(a, keeping(wire.KeepOpen, "build", "echo pid $$; sleep 1000"))
	s.shows("pid ")
	s.away()
	until(t, "who to know of a kept shell", func() bool { return strings.Contains(who(), "root") })
	must(k.simple(a, "ann", wire.KeepKill, "build"))
	until(t, "nobody to be logged in", func() bool { return who() == "" })
	stop(a)

	a = must(Open(dir, Config{PAM: true})) // inside a PAM session a shell is kept and ended as without
	s = k.mustSit(a, keeping(wire.KeepOpen, "build", "ulimit -n; cat"))
	s.shows("\n")
	s.away()
	again := k.mustSit(a, keeping(wire.KeepAttach, "build"))
	again.types("back\n")
	again.shows("back\r\nback")
	must(k.simple(a, "ann", wire.KeepKill, "build"))
	until(t, "nobody to be logged in", func() bool { return who() == "" })
	stop(a)

	stale(t, a)
	stop(must(Open(dir, Config{})))
	if out := who(); out != "" {
		t.Errorf("after an agent that was killed who says %q", out)
	}
}

// stale writes the record of a process that is gone.
func stale(t *testing.T, a *Agent) {
	t.Helper()
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	if err := a.logins.In(utmp.Login{PID: gone.Process.Pid, Line: "pts/4000", User: "left", Host: loginPrefix + "x", At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if out := who(); !strings.Contains(out, "left") {
		t.Errorf("the record is not there: %q", out)
	}
}
