package udp

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// smallLoopback gives this thread, for the rest of its life, a network of its own
// whose loopback carries 1,500 bytes.
func smallLoopback(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root for a network namespace")
		}
		t.Skip("needs root for a network namespace")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "mtu", "1500", "up").CombinedOutput(); err != nil {
		t.Fatalf("ip: %v: %s", err, out)
	}
}

// TestWholeDatagramsAreNotSentInParts: what does not fit is refused, and what is sent
// otherwise is still sent in parts.
func TestWholeDatagramsAreNotSentInParts(t *testing.T) {
	smallLoopback(t)
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		a, err := Listen(netip.MustParseAddrPort(addr), Options{OneFamily: true})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		to := a.LocalAddr()
		for range 2 {
			if err := a.WriteWhole(make([]byte, 8000), to); !errors.Is(err, syscall.EMSGSIZE) {
				t.Errorf("%s: 8,000 bytes whole: %v", addr, err)
			}
			for _, n := range []int{1400, 8000} {
				send := a.WriteTo
				if n == 1400 {
					send = a.WriteWhole
				}
				if err := send(make([]byte, n), to); err != nil {
					t.Errorf("%s: %d bytes: %v", addr, n, err)
				}
				m := []Message{{Buf: make([]byte, MaxBatch)}}
				if _, err := a.ReadBatch(m); err != nil || m[0].N != n {
					t.Errorf("%s: %d bytes became %d: %v", addr, n, m[0].N, err)
				}
			}
		}
	}
}
