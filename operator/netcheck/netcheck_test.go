package netcheck

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/internal/probe"
	"github.com/tucdesk/tucdesk/internal/proxies"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay"
	"github.com/tucdesk/tucdesk/relay/credential"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMappingIsToldByWhatRelaysSee(t *testing.T) {
	at := netip.MustParseAddrPort
	own := []netip.Addr{netip.MustParseAddr("192.168.1.5"), netip.MustParseAddr("203.0.113.5")}
	a, b, otherPort := "198.51.100.1:3478", "198.51.100.2:3478", "198.51.100.1:443"
	for _, c := range []struct {
		name string
		list []seen
		want Mapping
	}{
		{"nothing answered", nil, MappingUnknown},
		{"one relay behind a NAT", []seen{{at(a), at("203.0.113.9:4000")}}, MappingUnknown},
		{"one relay, own address", []seen{{at(a), at("203.0.113.5:5000")}}, MappingNone},
		{"two relays, own address", []seen{{at(a), at("203.0.113.5:5000")}, {at(b), at("203.0.113.5:5000")}}, MappingNone},
		{"own address, other port", []seen{{at(a), at("203.0.113.5:4000")}, {at(b), at("203.0.113.5:4000")}}, MappingIndependent},
		{"same for both", []seen{{at(a), at("203.0.113.9:4000")}, {at(b), at("203.0.113.9:4000")}}, MappingIndependent},
		{"a port for each", []seen{{at(a), at("203.0.113.9:4000")}, {at(b), at("203.0.113.9:4001")}}, MappingDependent},
		{"an address for each", []seen{{at(a), at("203.0.113.9:4000")}, {at(b), at("203.0.113.8:4000")}}, MappingDependent},
		{"same for two ports of one address", []seen{{at(a), at("203.0.113.9:4000")}, {at(otherPort), at("203.0.113.9:4000")}}, MappingUnknown},
		{"a port for each port", []seen{{at(a), at("203.0.113.9:4000")}, {at(otherPort), at("203.0.113.9:4001")}}, MappingDependent},
		{"one of them did not say", []seen{{at(a), at("203.0.113.9:4000")}, {at(b), netip.AddrPort{}}}, MappingUnknown},
	} {
		if got := classify(c.list, own, 5000); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if c.want.means() == "" {
			t.Errorf("%s has no words", c.want)
		}
	}
}

func TestSkewIsThatOfThisMachinesClock(t *testing.T) {
	second := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for ahead, want := range map[time.Duration]int{
		0: 0, 500 * time.Millisecond: 0, 999 * time.Millisecond: 0, 30*time.Second + 500*time.Millisecond: 30,
		-90*time.Second + 500*time.Millisecond: -90, 2 * time.Hour: 7199,
	} {
		var s server
		if s.skew(second, second.Add(ahead)); s.SkewSeconds != want {
			t.Errorf("%v: %d, want %d", ahead, s.SkewSeconds, want)
		}
	}
}

// lab is relays on this machine, each on UDP and TCP.
func lab(t *testing.T, n int) wire.Relay {
	t.Helper()
	secret := credential.NewSecret()
	c, _ := credential.MintPair(secret, time.Now(), time.Minute)
	cred := wire.Relay{Username: c.Username, Password: c.Password}
	for range n {
		loopback := netip.MustParseAddrPort("127.0.0.1:0")
		s, err := relay.Start(t.Context(), relay.Config{UDP: loopback, TCP: loopback, Secret: secret})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
		u, tcp := s.Addr()
		cred.Endpoints = append(cred.Endpoints, wire.RelayEndpoint{UDP: u.String(), TCP: tcp.String()})
	}
	return cred
}

// deaf is where nobody listens, now or in a moment: the system gives a port that was
// free a moment ago to the next program that asks for any, and this one to none.
const deaf = "127.0.0.1:1"

func reportOn(t *testing.T, cred wire.Relay) report {
	t.Helper()
	p, err := probe.NewProber()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	r := newReport(time.Now())
	r.tryRelays(t.Context(), p, cred)
	return r
}

func TestReportTellsEveryWay(t *testing.T) {
	cred := lab(t, 2)
	cred.Endpoints[1].TCP = deaf
	cred.Endpoints[1].WebSocket = deaf // no key, so no handshake is tried
	r := reportOn(t, cred)
	var got []string
	for _, w := range r.Ways {
		text := string(w.Kind)
		if !w.Works {
			text += " " + string(w.Leg)
		}
		if w.Works != (w.RTTMillis > 0 && w.Mapped != "" && w.Error == "") {
			t.Errorf("%+v", w)
		}
		got = append(got, text)
	}
	if want := "relay-udp,relay-tcp,relay-udp,relay-tcp connect,relay-ws handshake"; strings.Join(got, ",") != want {
		t.Errorf("got %s, want %s", strings.Join(got, ","), want)
	}
	if !r.works() || !r.IPv4.Tried || !r.IPv4.Works || r.IPv4.Mapping != MappingNone || r.IPv6.Tried {
		t.Errorf("%+v, %+v", r.IPv4, r.IPv6)
	}
	best, ok := r.best()
	if !ok || best.RTTMillis <= 0 {
		t.Errorf("%+v", best)
	}
}

func TestReportWithoutAnyWay(t *testing.T) {
	r := reportOn(t, wire.Relay{Endpoints: []wire.RelayEndpoint{{TCP: deaf}}})
	if _, ok := r.best(); ok || r.works() || r.IPv4.Tried || r.IPv4.Mapping != MappingUnknown {
		t.Errorf("%+v", r)
	}
}

func TestReportNamesTheProxyAndNotItsPassword(t *testing.T) {
	r := newReport(time.Now())
	r.Server.URL = "https://hub.example"
	r.Ways = []way{{Kind: link.RelayUDP, Address: "relay.example:1"}, {Kind: link.RelayTLS, Address: "relay.example:2"}, {Kind: link.RelayDTLS, Address: "relay.example:2"}, {Kind: link.RelayWebSocket, Address: "near.example:443"}}
	r.throughProxies(proxies.Settings{})
	if text := r.proxies(); text != "" {
		t.Errorf("without a proxy: %q", text)
	}
	for except, want := range map[string]string{
		"near.example":             "proxy.example:3128, named by ALL_PROXY, for the server and for 1 way to relays",
		"near.example,hub.example": "proxy.example:3128, named by ALL_PROXY, not for the server, for 1 way to relays",
		"":                         "proxy.example:3128, named by ALL_PROXY, for the server and for 2 ways to relays",
	} {
		r.throughProxies(proxies.Settings{URL: "http://user:secretword@proxy.example:3128", From: "ALL_PROXY", Except: except})
		var out bytes.Buffer
		if err := r.print(&cli.IO{Out: &out, Err: &out}); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), "proxy   "+want+"\n") || !bytes.Contains(text, []byte(`"proxy":"proxy.example:3128"`)) || !bytes.Contains(text, []byte(`"proxyFrom":"ALL_PROXY"`)) {
			t.Errorf("want %q in\n%s\n%s", want, out.String(), text)
		}
		if strings.Contains(out.String()+string(text), "secretword") {
			t.Errorf("a password shows in\n%s\n%s", out.String(), text)
		}
	}
}

func TestReportAsTextAndAsJSON(t *testing.T) {
	r := newReport(time.Now())
	r.Server = server{URL: "https://hub.example", Reachable: true, RTTMillis: 12.5, SkewSeconds: -90}
	r.Ways = []way{{Relay: 1, Kind: link.RelayUDP, Address: "192.0.2.1:3478"}, {Relay: 1, Kind: link.RelayTLS, Address: "relay\x1b[2J:443"}}
	r.Ways[0].took(probe.Result{RTT: 20 * time.Millisecond, Mapped: netip.MustParseAddrPort("203.0.113.9:4000")}, nil)
	r.Ways[1].took(probe.Result{}, &probe.Error{Leg: probe.LegHandshake, Err: errors.New("wrong\x1b[2J\nkey")})
	var out, talk bytes.Buffer
	if err := r.print(&cli.IO{Out: &out, Err: &talk}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"12.5 ms, this machine's clock is 90 s behind", "works", "20 ms", "203.0.113.9:4000", "blocked at handshake: wrong"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("what others wrote reaches the terminal as it is")
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"schemaVersion":1`, `"mapped":[]`, `"mapping":"unknown"`, `"leg":"handshake"`, `"clockSkewSeconds":-90`} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("%s is missing in %s", want, text)
		}
	}
}
