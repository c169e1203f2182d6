package netlab

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Host is a machine: a network namespace with loopback and eth0. Its Link leads to
// its network.
type Host struct {
	*Link
	name    string
	network *Network // guarded by lab.engine.mu
	addr    address  // guarded by lab.engine.mu
	tap     int      // the other end of eth0
	space   *os.File // holds the namespace
	inode   uint64   // identifies it
}

// Host adds a machine to the network. The name is for messages only.
func (n *Network) Host(name string) *Host {
	n.lab.t.Helper()
	h := &Host{Link: newLink(n.lab), name: name, network: n}
	if err := onThread(h.create); err != nil {
		n.lab.t.Fatalf("making host %q: %v", name, err)
	}
	h.up.out = func(f *frame) { h.network.routeLocked(f) }
	// A frame for an interface that is down, or gone with a killed namespace, is
	// lost as on a cable that nobody holds.
	h.down.out = func(f *frame) { _, _ = unix.Write(h.tap, f.b) }
	h.lab.locked(func() {
		h.lab.hosts = append(h.lab.hosts, h)
		h.lab.engine.ports = append(h.lab.engine.ports, h)
		h.lab.engine.stale = true
	})
	h.lab.engine.rouse()
	h.place(n)
	return h
}

// create makes the namespace and its interface. It runs by onThread.
func (h *Host) create() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	space, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	h.space = space
	if h.inode, err = inode(fmt.Sprintf("/proc/self/fd/%d", space.Fd())); err != nil {
		return err
	}
	for _, s := range quiet {
		if err := os.WriteFile("/proc/sys/net/"+s[0], []byte(s[1]), 0); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	if h.tap, err = openTAP("eth0"); err != nil {
		return err
	}
	return ip("link set lo alias \""+mark()+"\"", "link set lo up", "link set eth0 arp off txqueuelen 10000")
}

// quiet keeps the kernel from sending on its own, so that an idle link is idle, and
// from dropping what comes by an unexpected way.
var quiet = [][2]string{
	{"ipv6/conf/default/accept_ra", "0"},
	{"ipv6/conf/default/router_solicitations", "0"},
	{"ipv6/conf/default/accept_dad", "0"},
	{"ipv6/conf/default/addr_gen_mode", "1"},
	{"ipv4/conf/all/rp_filter", "0"},
	{"ipv4/conf/default/rp_filter", "0"},
	{"ipv4/ping_group_range", "0 2147483647"},
}

// ip runs lines of the ip program in the namespace of the calling thread.
func ip(lines ...string) error {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %v: %s", strings.Join(lines, "; "), err, out)
	}
	return nil
}

// place gives the host the next free addresses of a network and configures eth0.
func (h *Host) place(n *Network) {
	h.lab.t.Helper()
	var a address
	h.lab.locked(func() {
		h.network.detachLocked(h.Link)
		a = n.addressLocked()
		n.attachLocked(h.Link, a)
		h.network, h.addr = n, a
	})
	h.configure(a, "addr flush dev eth0")
}

// configure runs lines of ip, and then raises eth0 with an address.
func (h *Host) configure(a address, lines ...string) {
	h.lab.t.Helper()
	lines = append(lines, fmt.Sprintf("addr add %s/%d dev eth0", a.v4, a.len4), "link set eth0 up", fmt.Sprintf("route replace default via %s", a.gw4))
	if a.v6.IsValid() {
		lines = append(lines, fmt.Sprintf("addr add %s/%d dev eth0 nodad", a.v6, a.len6), fmt.Sprintf("route replace default via %s", a.gw6))
	}
	h.ip(lines...)
	if err := h.Do(func() error { return settled(a.v6) }); err != nil {
		h.lab.t.Fatalf("host %q: %v", h.name, err)
	}
}

// settleTime is how long a kernel may take to receive for a new address; our choice.
const settleTime = 5 * time.Second

// settled waits until the kernel receives for an address of version 6, of which it
// makes a route later than it answers ip.
func settled(a netip.Addr) error {
	if !a.IsValid() {
		return nil
	}
	route := []byte(fmt.Sprintf("%x 80 ", a.As16()))
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		table, err := os.ReadFile("/proc/thread-self/net/ipv6_route")
		if err != nil {
			return err
		}
		if bytes.Contains(table, route) {
			return nil
		}
		if time.Since(start) > settleTime {
			return fmt.Errorf("address %v has no route", a)
		}
	}
}

func (h *Host) ip(lines ...string) {
	h.lab.t.Helper()
	if err := h.Do(func() error { return ip(lines...) }); err != nil {
		h.lab.t.Fatalf("host %q: %v", h.name, err)
	}
}

// IPv4 returns the host's address of today.
func (h *Host) IPv4() (a netip.Addr) {
	h.lab.locked(func() { a = h.addr.v4 })
	return a
}

// IPv6 returns the host's address of today, or the zero Addr: behind a NAT that
// routes no IPv6.
func (h *Host) IPv6() (a netip.Addr) {
	h.lab.locked(func() { a = h.addr.v6 })
	return a
}

// Renumber gives the host new addresses in its network, as a router's lease does.
// Connections from the old ones hear nothing more.
func (h *Host) Renumber() {
	h.lab.t.Helper()
	var n *Network
	h.lab.locked(func() { n = h.network })
	h.place(n)
}

// Move takes the host to another network of the lab, as a laptop goes from one
// Wi-Fi to the next. Its Link, with all that was set, moves along.
func (h *Host) Move(to *Network) {
	h.lab.t.Helper()
	if to.lab != h.lab {
		h.lab.t.Fatalf("host %q cannot move to a network of another lab", h.name)
	}
	h.place(to)
}

// Unplug takes eth0 down: programs see that there is no network.
func (h *Host) Unplug() {
	h.lab.t.Helper()
	h.ip("link set eth0 down")
}

// Plug raises eth0 again, with the addresses it had.
func (h *Host) Plug() {
	h.lab.t.Helper()
	var a address
	h.lab.locked(func() { a = h.addr })
	h.configure(a, "addr flush dev eth0")
}

// Sysctl sets a value below /proc/sys/net, such as "ipv4/tcp_congestion_control".
func (h *Host) Sysctl(name, value string) {
	h.lab.t.Helper()
	if err := h.Do(func() error { return os.WriteFile("/proc/sys/net/"+name, []byte(value), 0) }); err != nil {
		h.lab.t.Fatalf("host %q: %v", h.name, err)
	}
}

// Do runs f on the host: sockets that it opens belong there and may be used from
// anywhere afterwards. Goroutines that it starts are not on the host. It returns
// f's error.
func (h *Host) Do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(h.space.Fd()), unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("setns", err)
		}
		return f()
	})
}

// Command prepares a program that will run on the host. It is a plain exec.Cmd, to
// be changed and started like any other, before the lab ends. It is killed when
// this process ends, or else the thread that started it: do not start it from a
// goroutine that is locked to its thread and ends so.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	space := fmt.Sprintf("--net=/proc/%d/fd/%d", os.Getpid(), h.space.Fd())
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{space, "--", name}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}
