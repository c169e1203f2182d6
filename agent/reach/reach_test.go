package reach

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

func TestP4GuardedAddressesInEverySpelling(t *testing.T) {
	for addr, want := range map[string]bool{
		"169.254.169.254": true, "169.254.170.2": true, "::ffff:169.254.169.254": true, "64:ff9b::a9fe:a9fe": true, "2002:a9fe:a9fe::1": true,
		"::a9fe:a9fe": true, "fd00:ec2::254": true, "fd20:ce::254": true, "fe80::1%eth0": true, "100.100.100.200": true, "168.63.129.16": true,
		"127.0.0.1": false, "10.0.0.1": false, "::1": false, "192.168.1.1": false, "2001:db8::1": false, "64:ff9b::a00:1": false, "fd00::1": false,
	} {
		if got := Guarded(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}

func TestP4DialingIsCheckedAfterTheNameWasResolved(t *testing.T) {
	for _, host := range []string{"169.254.169.254", "::ffff:169.254.169.254"} {
		if _, err := Dial(t.Context(), host, 80, false); refusal.Of(err) != refusal.PolicyDenied {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestP4SocketsOfContainersAreGuardedByAnyPath(t *testing.T) {
	for path, want := range map[string]bool{"/run/docker.sock": true, "/var/run/../run/docker.sock": true, "/run/user/1000/podman/podman.sock": true, "/run/app.sock": false, "/tmp/docker.sock": false} {
		if got := GuardedSocket(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
	if _, err := DialSocket(t.Context(), "/run/docker.sock", false); refusal.Of(err) != refusal.PolicyDenied {
		t.Errorf("dialling: %v", err)
	}
}

func TestListenersAreOnLoopbackUnlessARuleNamesAnotherAddress(t *testing.T) {
	for _, host := range []string{"0.0.0.0", "::", "192.0.2.1", "web.lan"} {
		if _, _, err := Listen(t.Context(), host, 0, false); refusal.Of(err) != refusal.PolicyDenied {
			t.Errorf("%s: %v", host, err)
		}
	}
	for _, host := range []string{"", "*", "localhost", "::1"} {
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

func TestListeningSocketsAreTheUsersAloneAndReplaceNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := ListenSocket(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := ListenSocket(t.Context(), path); refusal.Of(err) != refusal.Unreachable {
		t.Errorf("a second listener: %v", err)
	}
	c, err := DialSocket(t.Context(), path, false)
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
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	_ = l.Close()
	if _, err := Dial(t.Context(), "127.0.0.1", port, false); err == nil || err.Error() != "unreachable: connecting: connection refused" {
		t.Errorf("got %v", err)
	}
}
