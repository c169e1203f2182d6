package relay

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/pion/stun"
	"github.com/tucdesk/tucdesk/relay/credential"
)

// labRelay runs a relay in lab mode that may reach loopback only.
func labRelay(t *testing.T) *Server {
	return serve(t, func(c *Config) {
		c.Lab = &Lab{AllowPeers: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, RelayIP: netip.MustParseAddr("127.0.0.1")}
	})
}

// tool finds a program of Debian's coturn package.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		skip(t, name+" is missing; install it with: apt install coturn")
	}
	return path
}

// echo answers datagrams on loopback, as coturn's own peer does: that one would have to
// be told a port, which another program can have got by then.
func echo(t *testing.T) int {
	t.Helper()
	peer, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var answering sync.WaitGroup
	answering.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := peer.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = peer.WriteTo(buf[:n], from)
		}
	})
	t.Cleanup(func() { peer.Close(); answering.Wait() })
	return peer.LocalAddr().(*net.UDPAddr).Port
}

// uclient runs turnutils_uclient and returns what it printed.
func uclient(t *testing.T, s *Server, cred credential.Credential, args ...string) (string, error) {
	t.Helper()
	udpAddr, tcpAddr := s.Addr()
	port := udpAddr.Port()
	for _, a := range args {
		if a == "-t" {
			port = tcpAddr.Port()
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience) // it waits for seconds by itself
	defer cancel()
	all := append([]string{"-u", cred.Username, "-w", credential.Text(cred.Password), "-p", fmt.Sprint(port), "-c"}, args...)
	out, err := exec.CommandContext(ctx, tool(t, "turnutils_uclient"), append(all, "127.0.0.1")...).CombinedOutput()
	return string(out), err
}

var totals = regexp.MustCompile(`tot_send_msgs=(\d+), tot_recv_msgs=(\d+)`)

func TestForeignClientExchangesMessagesWithItsPeer(t *testing.T) {
	port := echo(t)
	for _, transport := range [][]string{nil, {"-t"}} {
		t.Run(strings.Join(append([]string{"uclient"}, transport...), " "), func(t *testing.T) {
			t.Parallel()
			s := labRelay(t)
			oc, _ := mint(s)
			out, err := uclient(t, s, oc, append(transport, "-e", "127.0.0.1", "-r", fmt.Sprint(port), "-n", "5", "-m", "1")...)
			last := totals.FindAllStringSubmatch(out, -1)
			if err != nil || len(last) == 0 {
				t.Fatalf("%v\n%s\n%+v", err, tail(out), s.Snapshot())
			}
			if m := last[len(last)-1]; m[1] != "5" || m[2] != "5" {
				t.Errorf("sent %s, received %s messages", m[1], m[2])
			}
		})
	}
}

func TestForeignClientWithAWrongPasswordIsRefused(t *testing.T) {
	s := labRelay(t)
	oc, _ := mint(s)
	oc.Password = make([]byte, 32)
	if out, err := uclient(t, s, oc, "-e", "127.0.0.1", "-n", "1"); err == nil {
		t.Errorf("it went well:\n%s", tail(out))
	}
	if snap := s.Snapshot(); snap.Events["bad_password"] == 0 || snap.Allocations != 0 {
		t.Errorf("%+v", snap)
	}
}

func tail(s string) string {
	var lines []string
	for sc := bufio.NewScanner(strings.NewReader(s)); sc.Scan(); {
		lines = append(lines, sc.Text())
	}
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// A credential that is good must not reach past the list, even in lab mode.
func TestM1LabSocketsReachListedPeersOnly(t *testing.T) {
	victim, err := net.ListenPacket("udp4", "127.0.0.2:0")
	if err != nil {
		skip(t, "127.0.0.2 cannot be bound; run on Linux")
	}
	defer victim.Close()
	s := labRelay(t)
	oc, _ := mint(s)
	o := dialRaw(t, s, "udp", oc)
	if got := o.allocate(); got != 0 {
		t.Fatal(got)
	}
	to := peerAddress(victim.LocalAddr().(*net.UDPAddr).AddrPort())
	if got := code(o.exchange(o.signed(stun.MethodCreatePermission, to), patience)); got == 0 {
		t.Error("permission for an unlisted peer")
	}
	// The wall on the socket, whatever pion permits.
	lab := &labConn{s: s}
	if lab.allowed(victim.LocalAddr()) {
		t.Error("the socket would send to it")
	}
	if n, err := lab.WriteTo([]byte("x"), victim.LocalAddr()); n != 1 || err != nil {
		t.Errorf("drop returned %d, %v", n, err)
	}
	if s.Snapshot().Events["wrong_peer"] != 1 {
		t.Error("not counted")
	}
}
