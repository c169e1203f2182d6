package link

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/path"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/credential"
)

// TestM2NothingGoesToARelayDirectly: not to one that we have a place on, not to
// one that is further down in the list, by no kind and under no name.
func TestM2NothingGoesToARelayDirectly(t *testing.T) {
	secret := credential.NewSecret()
	r, second := startFull(t, secret), startFull(t, secret)
	trap, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer trap.Close()
	victim := addrOf(trap.LocalAddr())
	named := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 9)
	cred, _ := r.mint(r.all, second.all, wire.RelayEndpoint{DTLS: victim.String(), TCP: "localhost:9"})
	l := open(t, Config{Relay: cred, Direct: true})
	for _, addr := range []string{r.all.UDP, r.all.TCP, r.all.TLS, r.all.DTLS, r.all.WebSocket, second.all.TCP, victim.String()} {
		if !l.IsRelay(netip.MustParseAddrPort(addr)) {
			t.Errorf("%s is not known for a relay's", addr)
		}
	}
	until(t, "the name", func() bool { return l.IsRelay(named) })
	free, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer free.Close()
	sent := segments(1, 128)[Headroom:]
	for _, to := range []netip.AddrPort{victim, addrOf(free.LocalAddr())} {
		if err := l.WriteSegments(path.Via{Addr: to}, segments(1, 128), 128); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 2048)
	if _, _, err := free.ReadFrom(buf); err != nil { // it was sent last
		t.Fatal(err)
	}
	if err := trap.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for n, err := 0, error(nil); err == nil; { // what dials it, in place of one that comes late, is no datagram of ours
		if n, _, err = trap.ReadFrom(buf); err == nil && bytes.Equal(buf[:n], sent) {
			t.Errorf("%d bytes went to a relay", n)
		}
	}
	if l.IsRelay(addrOf(free.LocalAddr())) {
		t.Error("any address is a relay's")
	}
}

// TestPlacesAreBounded: a server may send new lists for ever.
func TestPlacesAreBounded(t *testing.T) {
	var p places
	list := make([]netip.AddrPort, maxPlaces/4)
	for round := range 9 {
		for i := range list {
			list[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, byte(round), byte(i >> 8), byte(i)}), 1)
		}
		p.add(list)
	}
	if n := len(*p.known.Load()); n > maxPlaces {
		t.Errorf("%d places", n)
	}
}
