package programtest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// Ports are taken from here: above those of known services, and below those that Linux
// gives to whoever asks for any, 32768 to 60999. A port of those can be somebody else's
// between two starts of a server, and whoever dials it meanwhile from there is connected
// to himself.
const (
	firstPort = 20_000
	ports     = 12_000
)

// Port is free for TCP and UDP at every address, and nobody else's who asks here until
// the test's end, also in another test binary that runs at the same time: who has it
// holds a socket of that name, which the system takes away from those who are killed.
func Port(t testing.TB) string {
	t.Helper()
	for range 1000 {
		port := strconv.Itoa(firstPort + rand.IntN(ports))
		held, err := net.Listen("unix", fmt.Sprintf("@tucdesk-test-port-%s", port))
		if err != nil {
			continue // somebody has it
		}
		if free(port) {
			t.Cleanup(func() { _ = held.Close() })
			return port
		}
		_ = held.Close()
	}
	t.Fatal("no free port")
	return ""
}

// free reports that no program listens there.
func free(port string) bool {
	l, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return false
	}
	defer l.Close()
	u, err := net.ListenPacket("udp", ":"+port)
	if err != nil {
		return false
	}
	_ = u.Close()
	return true
}
