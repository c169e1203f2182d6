package link

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/tucdesk/tucdesk/internal/path"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/credential"
)

func TestPortsAreTriedOnceAndThenAny(t *testing.T) {
	for p, want := range map[Ports][]uint16{
		{}:             {0},
		{7, 6}:         {0},
		{9, 9}:         {9, 0},
		{65533, 65535}: {65533, 65534, 65535, 0},
	} {
		got := p.order()
		if got[len(got)-1] != 0 {
			t.Errorf("%v: any port is not the last of %v", p, got)
		}
		slices.Sort(got[:len(got)-1])
		if !slices.Equal(got, want) {
			t.Errorf("%v: %v, want %v", p, got, want)
		}
	}
}

// TestPublicAddressIsOfferedWithThePortThatIsLetThrough, and with no other: who asked for
// it would send to somebody else's port.
func TestPublicAddressIsOfferedWithThePortThatIsLetThrough(t *testing.T) {
	r := startFull(t, credential.NewSecret())
	cred, _ := r.mint(r.only(RelayTCP))
	free := taken(t)
	number := free.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	public := netip.MustParseAddr("198.51.100.7")
	offered := func(relay wire.Relay) []path.Candidate {
		l := open(t, Config{Relay: relay, Direct: true, Ports: Ports{number, number}, Public: []netip.Addr{public, public, {}}})
		return slices.DeleteFunc(l.Candidates(), func(c path.Candidate) bool { return c.Kind != path.Configured })
	}
	if got := offered(cred); len(got) != 0 {
		t.Errorf("the port is another program's, and %v is offered", got)
	}
	_ = free.Close()
	if got := offered(cred); !slices.Equal(got, []path.Candidate{{Kind: path.Configured, Addr: netip.AddrPortFrom(public, number)}}) {
		t.Errorf("offered %v", got)
	}
}

// taken is a UDP socket at a port of all addresses that is not one which the system gives
// to whoever asks, so that nobody else has it once it is closed.
func taken(t *testing.T) *net.UDPConn {
	t.Helper()
	for port := 20_000; port < 32_000; port += 7 {
		if c, err := net.ListenUDP("udp4", &net.UDPAddr{Port: port}); err == nil {
			t.Cleanup(func() { _ = c.Close() })
			return c
		}
	}
	t.Fatal("no free port")
	return nil
}
