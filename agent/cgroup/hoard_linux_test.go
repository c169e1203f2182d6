package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// unitLimit is what the unit of the test's agent may have.
const unitLimit = 120

// hoard takes every process that can be had and keeps trying.
const hoard = `<STDIN>; while (1) { my $p = fork; select undef, undef, undef, 0.001 unless defined $p; if (defined $p && !$p) { sleep 1000 } }`

func hoardOwner() string { return "hoard" + strconv.Itoa(os.Getpid()) }

// unitForTest makes a group with room for unitLimit processes, and returns in which an
// agent of it starts.
func unitForTest(t *testing.T) (agent string) {
	t.Helper()
	needs := func(err error) {
		t.Helper()
		if err == nil {
			return
		}
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("%v: run the test as root where groups can limit processes", err)
	}
	name := "test" + strconv.Itoa(os.Getpid()) + ".service"
	groups, err := os.ReadFile("/proc/self/cgroup")
	needs(err)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	needs(err)
	dir, err := locateOld(string(groups), string(mounts))
	old := err == nil
	if !old {
		dir, err = own()
		needs(err)
		needs(enable(dir))
	}
	unit := filepath.Join(dir, name)
	needs(os.Mkdir(unit, 0o755))
	t.Cleanup(func() {
		here, _ := own()
		for _, dir := range []string{here, filepath.Join(unit, sessionsGroup)} {
			groups, _ := filepath.Glob(filepath.Join(dir, anyPrefix+hoardOwner()+"-*"))
			for _, g := range groups { // of a test that failed: the hoard must not stay
				_ = (&Group{dir: g}).End()
			}
		}
		if err := removeAll(unit); err != nil {
			t.Error(err)
		}
	})
	if err := setLimit(unit, unitLimit); err != nil {
		t.Fatal(err)
	}
	if old {
		return unit
	}
	agent = filepath.Join(unit, agentGroup)
	if err := os.Mkdir(agent, 0o755); err != nil {
		t.Fatal(err)
	}
	return agent
}

// life runs the test binary as an agent in the group until it has said a line, and
// kills it.
func life(t *testing.T, group, which, want string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHAHoardOfProcessesLeavesRoomForOthers$")
	cmd.Env = append(os.Environ(), "HOARD_LIFE="+which, "HOARD_OWNER="+hoardOwner())
	cmd.Stderr = os.Stderr
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
	if err := (&Group{dir: group}).write("cgroup.procs", strconv.Itoa(cmd.Process.Pid)); err != nil {
		t.Error(err)
	}
	_, _ = in.Write([]byte("go\n"))
	line, _ := bufio.NewReader(out).ReadString('\n')
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if strings.TrimSpace(line) != want {
		t.Errorf("the %s agent: %q, want %q", which, line, want)
	}
}

// An operator with one plain command took all processes of the agent's unit: nobody got
// a session any more, and a new agent died while it started (row H8, its other half).
func TestHAHoardOfProcessesLeavesRoomForOthers(t *testing.T) {
	if which := os.Getenv("HOARD_LIFE"); which != "" {
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		said, err := "the hoard is full, others work", error(nil)
		if which == "first" {
			err = firstLife()
		} else {
			said, err = "the hoard has ended, others work", nextLife()
		}
		if err != nil {
			said = err.Error()
		}
		fmt.Println(said)
		_, _ = io.Copy(io.Discard, os.Stdin) // until killed, as kill -9 does it
	}
	if _, err := exec.LookPath("perl"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("install perl (Debian: perl-base)")
	}
	open(t) // or skip
	group := unitForTest(t)
	life(t, group, "first", "the hoard is full, others work")
	life(t, group, "next", "the hoard has ended, others work")
}

// firstLife lets one session take what it can get and leave it running.
func firstLife() error {
	p, err := Open(os.Getenv("HOARD_OWNER"))
	if err != nil {
		return err
	}
	if p.Unlimited() != nil {
		return p.Unlimited()
	}
	g, err := p.Make("hoarder")
	if err != nil {
		return err
	}
	cmd := exec.Command("perl", "-e", hoard)
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := g.Add(cmd.Process.Pid); err != nil {
		return err
	}
	if _, err := in.Write([]byte("go\n")); err != nil {
		return err
	}
	if err := full(g, p.limits.one); err != nil {
		return err
	}
	if left, err := g.Leave("ann"); err != nil || !left {
		return fmt.Errorf("leaving the hoard: %v, %v", left, err)
	}
	return others(p)
}

// nextLife finds the hoard, works beside it, and ends it.
func nextLife() error {
	p, err := Open(os.Getenv("HOARD_OWNER"))
	if err != nil {
		return err
	}
	left, err := p.Sweep()
	if err != nil || len(left) != 1 {
		return fmt.Errorf("what was left: %v, %v", left, err)
	}
	return errors.Join(full(left[0].Group, p.limits.one), others(p), left[0].Group.End())
}

// full waits until a group has taken all it may. A fork that is refused is counted for a
// moment, and a hoard never stops trying: one more is no fault.
func full(g *Group, limit int) error {
	dir := g.dir
	if g.counted != "" {
		dir = g.counted
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); ; <-tick.C {
		text, err := os.ReadFile(filepath.Join(dir, "pids.current"))
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || n == limit {
			return err
		}
		if n > limit+1 || time.Now().After(end) {
			return fmt.Errorf("the hoard has %d processes, may have %d", n, limit)
		}
	}
}

// others runs a few sessions that start programs.
func others(p *Parent) error {
	for i := range 5 {
		g, err := p.Make("other" + strconv.Itoa(i))
		if err != nil {
			return err
		}
		cmd := exec.Command("/bin/sh", "-c", "read go; /bin/sh -c 'true | cat'; exit $?")
		in, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		if err := g.Add(cmd.Process.Pid); err != nil {
			return err
		}
		_, _ = in.Write([]byte("go\n"))
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("another session: %v", err)
		}
		if err := g.End(); err != nil {
			return err
		}
	}
	return nil
}

// Where the unit has a group for the agent, sessions belong beside it, and in no other
// arrangement are groups touched that the agent was not started in. Plain files stand
// for the kernel's: this is about which are written.
func TestLimitsBelongToTheUnitThatHasAGroupForItsAgent(t *testing.T) {
	lay := func(unit string) string {
		dir := filepath.Join(t.TempDir(), unit)
		for _, d := range []string{agentGroup, sessionsGroup} {
			if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for _, f := range []string{"cgroup.subtree_control", pidsMax, sessionsGroup + "/cgroup.subtree_control", sessionsGroup + "/" + pidsMax} {
			if err := os.WriteFile(filepath.Join(dir, f), []byte(""), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, pidsMax), []byte("400\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	unit := lay("tucdesk-agent.service")
	groups, l, err := openLimits(filepath.Join(unit, agentGroup))
	if err != nil || groups != filepath.Join(unit, sessionsGroup) || l.dir != groups || l.one != 100 || l.own {
		t.Errorf("%q, %+v, %v", groups, l, err)
	}
	for file, want := range map[string]string{"cgroup.subtree_control": "+pids", sessionsGroup + "/cgroup.subtree_control": "+pids", sessionsGroup + "/" + pidsMax: "300"} {
		if got, err := os.ReadFile(filepath.Join(unit, file)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", file, got, err)
		}
	}
	other := lay("machine")
	if groups, _, _ := openLimits(filepath.Join(other, agentGroup)); groups != filepath.Join(other, agentGroup) {
		t.Errorf("outside of a unit: %q", groups)
	}
	if got, err := os.ReadFile(filepath.Join(other, "cgroup.subtree_control")); err != nil || len(got) > 0 {
		t.Errorf("a group of somebody else was changed: %q, %v", got, err)
	}
}

func TestTheOldHierarchyThatCountsIsFound(t *testing.T) {
	const mounts = "31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n32 30 0:28 /up /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
	for name, c := range map[string]struct{ groups, want string }{
		"below":   {"8:pids:/up/x.service\n4:memory:/y\n0::/\n", "/sys/fs/cgroup/pids/x.service"},
		"outside": {"8:pids:/other\n", ""},
		"above":   {"8:pids:/up/../x\n", ""},
		"without": {"4:memory:/y\n0::/\n", ""},
		"nothing": {"", ""},
	} {
		if got, err := locateOld(c.groups, mounts); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
