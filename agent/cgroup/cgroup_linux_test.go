package cgroup

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func open(t *testing.T) *Parent {
	t.Helper()
	p, err := Open("test" + strconv.Itoa(os.Getpid()) + t.Name())
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("%v: run the test as root where /sys/fs/cgroup is writable", err)
	}
	return p
}

// daemon starts a shell in g whose grandchild leaves the session and its parent,
// and returns that one's process id once it is an orphan.
func daemon(t *testing.T, g *Group) int {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "read go; (setsid sh -c 'trap \"\" HUP TERM; echo $$; exec sleep 1000' &)")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := g.Add(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	_, _ = in.Write([]byte("go\n"))
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func gone(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// wantGone waits for the end of a process whose group has ended: the kernel counts the
// killed out of their group before they are dead.
func wantGone(t *testing.T, pid int) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	until(t, "the daemon to end with its group", func() bool { return gone(pid) })
}

func TestH2DaemonDiesWithItsGroup(t *testing.T) {
	p := open(t)
	g, err := p.Make("one")
	if err != nil {
		t.Fatal(err)
	}
	pid := daemon(t, g)
	if gone(pid) {
		t.Fatal("the daemon did not start")
	}
	if err := os.Mkdir(filepath.Join(g.dir, "nested"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := g.End(); err != nil {
		t.Fatal(err)
	}
	wantGone(t, pid)
	if _, err := os.Stat(g.dir); err == nil {
		t.Error("the group is still there")
	}
}

func TestSweepEndsOwnGroupsOnly(t *testing.T) {
	p := open(t)
	other := &Parent{dir: p.dir, prefix: "tucdesk-other" + p.prefix}
	left, err := p.Make("left")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := other.Make("theirs")
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.End()
	stray, busy := filepath.Join(p.dir, anyPrefix+"stray"+p.prefix), &Group{dir: filepath.Join(p.dir, anyPrefix+"busy"+p.prefix)}
	for _, dir := range []string{stray, busy.dir} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	defer busy.End()
	working := daemon(t, busy)
	for _, dir := range []string{stray, busy.dir} {
		if err := os.Chtimes(dir, time.Time{}, time.Now().Add(-2*strayAfter)); err != nil {
			t.Fatal(err)
		}
	}
	pid := daemon(t, left)
	if kept, err := p.Sweep(); err != nil || len(kept) > 0 {
		t.Fatal(kept, err)
	}
	wantGone(t, pid)
	if _, err := os.Stat(theirs.dir); err != nil {
		t.Error("another agent's group was ended")
	}
	if _, err := os.Stat(stray); err == nil {
		t.Error("an old empty group is still there")
	}
	if gone(working) {
		t.Error("another agent's program was ended")
	}
	if err := (*Group)(nil).End(); err != nil {
		t.Error(err)
	}
}

// What was left on purpose is there for the next agent, with its mark, until it ends.
func TestWhatWasLeftIsKeptAndMarked(t *testing.T) {
	p := open(t)
	busy, err := p.Make("busy")
	if err != nil {
		t.Fatal(err)
	}
	idle, err := p.Make("idle")
	if err != nil {
		t.Fatal(err)
	}
	pid := daemon(t, busy)
	if left, err := busy.Leave("ann"); err != nil || !left {
		t.Errorf("a group with a program: %v, %v", left, err)
	}
	if left, err := idle.Leave("ann"); err != nil || left {
		t.Errorf("an empty group: %v, %v", left, err)
	}
	if left, err := (*Group)(nil).Leave("ann"); err != nil || left {
		t.Errorf("no group: %v, %v", left, err)
	}
	left, err := p.Sweep()
	if err != nil || len(left) != 1 || left[0].Mark != "ann" || gone(pid) {
		t.Fatalf("the next agent finds %v, %v; the daemon ended: %v", left, err, gone(pid))
	}
	if left[0].Group.Ended() {
		t.Error("a group with a program counts as ended")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "the group to end with its program", left[0].Group.Ended)
	if left, err := p.Sweep(); err != nil || len(left) != 0 {
		t.Errorf("after its end: %v, %v", left, err)
	}
}

// An empty group can be removed by whoever is root. The agent must not try to end it for
// ever, nor count it among what goes on.
func TestAGroupThatSomebodyElseRemovedHasEnded(t *testing.T) {
	g := &Group{dir: filepath.Join(t.TempDir(), "removed")}
	if err := g.End(); err != nil {
		t.Error(err)
	}
	if !g.Ended() {
		t.Error("it goes on")
	}
}

func TestOwnGroupIsFoundInEveryArrangement(t *testing.T) {
	const unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
	const hybrid = "31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
	const container = "50 40 0:26 /machine/x /sys/fs/cgroup rw master:1 - cgroup2 cgroup rw\n"
	for name, c := range map[string]struct{ groups, mounts, want string }{
		"unified":   {"0::/system.slice/tucdesk-agent.service\n", unified, "/sys/fs/cgroup/system.slice/tucdesk-agent.service"},
		"hybrid":    {"4:memory:/x\n0::/\n", hybrid, "/sys/fs/cgroup/unified"},
		"container": {"0::/machine/x/app\n", container, "/sys/fs/cgroup/app"},
		"elsewhere": {"0::/other\n", container, ""},
		"outside":   {"0::/../x\n", unified, ""},
		"old":       {"4:memory:/x\n", hybrid, ""},
		"nothing":   {"", "", ""},
		"unmounted": {"0::/\n", "31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n", ""},
	} {
		if got, err := locate(c.groups, c.mounts); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
