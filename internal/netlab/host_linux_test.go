package netlab

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRenumberedHost(t *testing.T) {
	t.Parallel()
	a, _, ca, cb := pair(t)
	before := a.IPv4()
	a.Renumber()
	if a.IPv4() == before {
		t.Fatalf("still has %v", before)
	}
	if _, err := ca.WriteToUDPAddrPort([]byte("x"), own(cb)); err == nil {
		t.Error("a socket still sends from the old address")
	}
	stays := listen(t, a, netip.IPv4Unspecified())
	send(t, stays, own(cb), "new")
	if from := expect(t, cb, "new"); from.Addr() != a.IPv4() {
		t.Errorf("came from %v, want %v", from, a.IPv4())
	}
	a.Renumber()
	send(t, stays, own(cb), "newer")
	if from := expect(t, cb, "newer"); from.Addr() != a.IPv4() {
		t.Errorf("came from %v, want %v", from, a.IPv4())
	}
}

func TestHostMovesBehindANAT(t *testing.T) {
	t.Parallel()
	a, _, _, cb := pair(t)
	nat := a.network.NAT(PortRestricted)
	c := listen(t, a, netip.IPv4Unspecified())
	a.Move(nat.Network)
	send(t, c, own(cb), "moved")
	from := expect(t, cb, "moved")
	if from.Addr() != nat.IPv4() {
		t.Errorf("came from %v, want %v", from, nat.IPv4())
	}
	send(t, cb, from, "back")
	expect(t, c, "back")
	if a.IPv6().IsValid() {
		t.Errorf("has %v behind a NAT without IPv6", a.IPv6())
	}
}

func TestUnpluggedHost(t *testing.T) {
	t.Parallel()
	a, b, ca, cb := pair(t)
	a.Unplug()
	if _, err := ca.WriteToUDPAddrPort([]byte("x"), own(cb)); err == nil {
		t.Error("a host without a cable sends")
	}
	send(t, cb, own(ca), "lost")
	eventually(t, "it reaches the loose end", func() bool { _, down := a.Count(); return down.Packets == 1 })
	a.Plug()
	send(t, ca, own(cb), "plugged")
	expect(t, cb, "plugged")
	six, six2 := listen(t, a, a.IPv6()), listen(t, b, b.IPv6())
	send(t, six, own(six2), "plugged")
	expect(t, six2, "plugged")
}

func TestIdleHostsAreSilent(t *testing.T) {
	t.Parallel()
	a, _, ca, cb := pair(t)
	send(t, ca, own(cb), "one")
	expect(t, cb, "one")
	if up, down := a.Count(); up.Packets != 1 || down.Packets != 0 {
		t.Errorf("sent %d packets, received %d; want 1 and 0", up.Packets, down.Packets)
	}
}

func TestSysctl(t *testing.T) {
	t.Parallel()
	a := New(t).Internet().Host("a")
	a.Sysctl("ipv4/tcp_congestion_control", "reno")
	var got []byte
	err := a.Do(func() (err error) { got, err = os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control"); return err })
	if err != nil || strings.TrimSpace(string(got)) != "reno" {
		t.Errorf("%q %v", got, err)
	}
}

// probe is a T whose cleanup the test decides.
type probe struct {
	testing.TB
	cleanup []func()
}

func (p *probe) Cleanup(f func()) { p.cleanup = append(p.cleanup, f) }

func TestNothingIsLeftBehind(t *testing.T) {
	p := &probe{TB: t}
	if missing := Missing(); missing != "" {
		New(t) // skips
	}
	before := descriptors(t)
	lab := New(p)
	h := lab.Internet().Host("h")
	// A daemon, out of reach of Pdeathsig and of its parent.
	out, err := h.Command(context.Background(), "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo $!").Output()
	if err != nil {
		t.Fatal(err)
	}
	daemon := must(strconv.Atoi(strings.TrimSpace(string(out))))
	ino := h.inode
	for _, f := range p.cleanup {
		f()
	}
	if err := syscall.Kill(daemon, 0); err != syscall.ESRCH && startOf(daemon) != "" {
		t.Errorf("process %d still runs: %v", daemon, err)
	}
	if left := must(processes())[ino]; len(left) != 0 {
		t.Errorf("processes %v are in the namespace", left)
	}
	eventually(t, "as many descriptors as before", func() bool { return descriptors(t) <= before })
}

func descriptors(t *testing.T) int {
	t.Helper()
	return len(must(os.ReadDir("/proc/self/fd")))
}

// lonely makes this test binary a lab that is killed; see below.
const lonely = "NETLAB_LONELY"

func TestALabThatWasKilledIsCleanedUp(t *testing.T) {
	if os.Getenv(lonely) != "" {
		h := New(t).Internet().Host("h")
		out, err := h.Command(context.Background(), "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo $!").Output()
		fmt.Printf("daemon %s%v\n", out, err)
		_, _ = io.Copy(io.Discard, os.Stdin) // until killed
		return
	}
	New(t)
	for range 5 {
		if killedLab(t) {
			return
		}
	}
	t.Error("the daemon died by itself each time: this test proves nothing")
}

// killedLab kills a lab and has a new one clean up. It returns false if somebody else
// had done that before: other packages' labs may start at any time.
func killedLab(t *testing.T) bool {
	t.Helper()
	cmd := exec.Command(must(os.Executable()), "-test.run=^TestALabThatWasKilledIsCleanedUp$")
	cmd.Env = append(os.Environ(), lonely+"=1")
	in, out := must(cmd.StdinPipe()), must(cmd.StdoutPipe())
	defer in.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	daemon := must(strconv.Atoi(strings.TrimPrefix(strings.TrimSpace(line), "daemon ")))
	New(t)
	if startOf(daemon) == "" {
		t.Error("a new lab ended what belongs to a living one")
	}
	_ = cmd.Process.Signal(unix.SIGKILL)
	_ = cmd.Wait()
	if startOf(daemon) == "" {
		return false
	}
	New(t)
	eventually(t, "the daemon is killed", func() bool { return startOf(daemon) == "" })
	return true
}

func TestCommandsDieWithTheLab(t *testing.T) {
	p := &probe{TB: t}
	h := New(p).Internet().Host("h")
	cmd := h.Command(context.Background(), "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	eventually(t, "it is on the host", func() bool {
		ino, err := inode(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid))
		return err == nil && ino == h.inode
	})
	for _, f := range p.cleanup {
		f()
	}
	if err := <-ended; err == nil {
		t.Error("it was not killed")
	}
}

// The system kills a child with Pdeathsig when the thread that started it ends.
func TestCommandsOutliveTheThreadsOfOthers(t *testing.T) {
	t.Parallel()
	lab := New(t)
	inet := lab.Internet()
	h := inet.Host("h")
	cmd := h.Command(context.Background(), "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for i := range 30 {
		socket(t, inet.Host(strconv.Itoa(i)))
		probe := &probe{TB: t}
		New(probe)
		for _, f := range probe.cleanup {
			f()
		}
	}
	select {
	case err := <-ended:
		t.Errorf("the command ended: %v", err)
	default:
		_ = cmd.Process.Kill()
		<-ended
	}
}

func TestDoLeavesThreadsAtHome(t *testing.T) {
	h := New(t).Internet().Host("h")
	home := must(inode("/proc/thread-self/ns/net"))
	for range 50 {
		_ = h.Do(func() error { return nil })
		got := make(chan uint64)
		go func() { got <- must(inode("/proc/thread-self/ns/net")) }()
		if ino := <-got; ino != home {
			t.Fatalf("a goroutine runs in namespace %d, want %d", ino, home)
		}
	}
}
