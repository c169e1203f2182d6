package reach

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/policy"
)

func TestP4DialingIsCheckedAfterTheNameWasResolved(t *testing.T) {
	for _, host := range []string{"169.254.169.254", "::ffff:169.254.169.254"} {
		if _, err := Dial(t.Context(), host, 80, false); refusal.Of(err) != refusal.PolicyDenied {
			t.Errorf("%s: %v", host, err)
		}
	}
}

// answering is a DNS server that has addr for every name, until the test's end.
func answering(t *testing.T, addr [4]byte) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for b := make([]byte, 1500); ; {
			n, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(reply(b[:n], addr), from)
		}
	})
	usual := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
	t.Cleanup(func() {
		net.DefaultResolver = usual
		_ = server.Close()
		wg.Wait()
	})
}

// reply answers one question (RFC 1035 4.1): addr to A, nothing to others.
func reply(query []byte, addr [4]byte) []byte {
	const head = 12
	end := head + bytes.IndexByte(query[head:], 0) + 5
	answer := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, query[head:end]...)
	if query[end-3] == 1 {
		answer[7] = 1
		answer = append(answer, 0xc0, head, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		answer = append(answer, addr[:]...)
	}
	return answer
}

func TestP4ANamedHostDoesNotOpenWhatItsDNSSays(t *testing.T) {
	answering(t, [4]byte{169, 254, 7, 7})
	for _, named := range []bool{false, true} {
		if _, err := Dial(t.Context(), "rebind.test", 9, named); refusal.Of(err) != refusal.PolicyDenied {
			t.Errorf("named %v: %v", named, err)
		}
	}
}

func TestP4ARuleOpensTheAddressThatItNamesAlone(t *testing.T) {
	for _, c := range []struct {
		host, dialled string
		named, want   bool
	}{
		{"169.254.169.254", "169.254.169.254:80", true, true},
		{"169.254.169.254", "169.254.169.254:80", false, false},
		{"::ffff:169.254.169.254", "169.254.169.254:80", true, true},
		{"fd00:ec2::254", "[fd00:ec2::254]:80", true, true},
		{"169.254.7.7", "169.254.169.254:80", true, false},
		{"10.0.0.1", "169.254.169.254:80", true, false},
		{"2852039166", "169.254.169.254:80", true, false},
		{"rebind.test", "169.254.169.254:80", true, false},
		{"rebind.test", "[64:ff9b::a9fe:a9fe]:80", true, false},
		{"rebind.test", "10.0.0.1:80", true, true},
		{"rebind.test", "10.0.0.1:80", false, true},
		{"rebind.test", "no address", true, false},
	} {
		if err := guard(c.host, c.named)("tcp", c.dialled, nil); (err == nil) != c.want {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestP4EverySocketNeedsARuleThatNamesIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, p := range []string{path, "/run/docker.sock", "/run/dbus/system_bus_socket", "/run/user/1000/systemd/private", "/run/containerd/containerd.sock.ttrpc"} {
		if _, err := DialSocket(t.Context(), p, false); refusal.Of(err) != refusal.PolicyDenied {
			t.Errorf("%s: %v", p, err)
		}
	}
	c, err := DialSocket(t.Context(), path, true)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

func TestListenersAreOnLoopbackUnlessARuleNamesAnotherAddress(t *testing.T) {
	for _, host := range []string{"*", "0.0.0.0", "::", "192.0.2.1", "web.lan"} {
		if _, _, err := Listen(t.Context(), host, 0, false); refusal.Of(err) != refusal.PolicyDenied {
			t.Errorf("%s: %v", host, err)
		}
	}
	for _, host := range []string{"", "localhost", "::1", "LOCALHOST.", "::ffff:127.0.0.1"} {
		list, port, err := Listen(t.Context(), host, 0, false)
		if err != nil || port == 0 {
			t.Fatalf("%q: port %d, %v", host, port, err)
		}
		for _, l := range list {
			if at := l.Addr().(*net.TCPAddr); !at.IP.IsLoopback() || at.Port != int(port) {
				t.Errorf("%q listens at %v", host, at)
			}
			_ = l.Close()
		}
	}
}

// "*" was once taken for loopback: the operator was told of a listener that nobody else
// could reach.
func TestEverywhereIsEveryAddressWhereARuleNamesIt(t *testing.T) {
	list, port, err := Listen(t.Context(), policy.Everywhere, 0, true)
	if err != nil || port == 0 || len(list) != 1 {
		t.Fatalf("port %d, %v, %v", port, list, err)
	}
	defer list[0].Close()
	if at := list[0].Addr().(*net.TCPAddr); !at.IP.IsUnspecified() {
		t.Errorf("it listens at %v", at)
	}
}

// Else who has the port in one family gets half of what is meant for the operator.
func TestP3APortThatTheMachineHasInOneFamilyIsTaken(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Logf("no %s here: %v", host, err)
			continue
		}
		defer l.Close()
		for _, asked := range []string{"", "localhost"} {
			list, _, err := Listen(t.Context(), asked, uint16(l.Addr().(*net.TCPAddr).Port), false)
			if err == nil || err.Error() != "unreachable: listening: address already in use" {
				t.Errorf("%q beside a program that has %s: %v, %v", asked, l.Addr(), list, err)
			}
		}
	}
}

func TestListeningSocketsAreTheUsersAloneAndReplaceNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if _, err := ListenSocket(t.Context(), path, false); refusal.Of(err) != refusal.PolicyDenied {
		t.Errorf("a socket that no rule names: %v", err)
	}
	l, err := ListenSocket(t.Context(), path, true)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := ListenSocket(t.Context(), path, true); refusal.Of(err) != refusal.Unreachable {
		t.Errorf("a second listener: %v", err)
	}
	c, err := DialSocket(t.Context(), path, true)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	_ = l.Close()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestErrorsNameTheReasonAndNotOurWords(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken, err := net.Dial("tcp", l.Addr().String()) // at its own end nobody listens, and nobody else can
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := uint16(taken.LocalAddr().(*net.TCPAddr).Port)
	if _, err := Dial(t.Context(), "127.0.0.1", port, false); err == nil || err.Error() != "unreachable: connecting: connection refused" {
		t.Errorf("got %v", err)
	}
}
