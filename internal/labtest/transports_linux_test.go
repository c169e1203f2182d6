package labtest

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tucdesk/tucdesk/internal/netlab"
)

// securePort is where a relay takes TLS and DTLS.
const securePort = 5349

// newSecureWorld has one relay that clients are told to reach by one kind only,
// "tls", "dtls" or "websocket", at a port, under a key; "" is the relay's.
func newSecureWorld(t *testing.T, kind string, port uint16, pin string) *world {
	t.Helper()
	w := prepare(t, 1)
	r := w.relays[0]
	w.write(relayFile(0), fmt.Sprintf("listen = \"%s\"\nsecure = \"%s\"\nsecret = %q\nkey = %q\n",
		r.addr(), netip.AddrPortFrom(r.IPv4(), port), w.path("server", "relay.secret"), w.path("relay.key")))
	create := r.Command(t.Context(), program("tucdesk-relay"), "create-key", "--config", w.path(relayFile(0)))
	create.Env = clean()
	if own := strings.TrimSpace(must(t, create)); pin == "" {
		pin = own
	}
	w.run(w.config(nil) + fmt.Sprintf("[[relay.external]]\n%s = \"%s\"\nkey = %q\n", kind, netip.AddrPortFrom(r.IPv4(), port), pin))
	return w
}

// onlyTo lets out nothing but calls of the server and one kind of way to the relay.
func (w *world) onlyTo(proto netlab.Protocol, port uint16) netlab.Firewall {
	hub, relay := w.hub.IPv4(), w.relays[0].IPv4()
	return func(up bool, p netlab.Packet) bool {
		far := p.Src
		if up {
			far = p.Dst
		}
		return far.Addr() == hub && p.Proto == netlab.TCP || far == netip.AddrPortFrom(relay, port) && p.Proto == proto
	}
}

// protected are the kinds that have a key.
var protected = []struct {
	kind, way string
	proto     netlab.Protocol
	port      uint16
}{
	{"tls", "relay-tls ", netlab.TCP, securePort},
	{"tls", "relay-tls ", netlab.TCP, 443},
	{"dtls", "relay-dtls ", netlab.UDP, securePort},
	{"websocket", "relay-ws ", netlab.TCP, 443},
}

func TestEveryProtectedTransportAlone(t *testing.T) {
	t.Parallel()
	for _, c := range protected {
		t.Run(fmt.Sprintf("%s on %d", c.kind, c.port), func(t *testing.T) {
			t.Parallel()
			w := newSecureWorld(t, c.kind, c.port, "")
			w.place(w.inet, w.inet)
			w.laptop.Allow(w.onlyTo(c.proto, c.port))
			w.machine.Allow(w.onlyTo(c.proto, c.port))
			s := w.open(copying)
			s.goesOn(gapMost)
			if way := s.finish(); !strings.HasPrefix(way, c.way) {
				t.Errorf("the client says %q, want %q", way, c.way)
			}
		})
	}
}

// TestM18RelayWithAnotherKey has a relay whose key is not the one in the grant.
func TestM18RelayWithAnotherKey(t *testing.T) {
	t.Parallel()
	for _, c := range protected {
		t.Run(fmt.Sprintf("%s on %d", c.kind, c.port), func(t *testing.T) {
			t.Parallel()
			w := newSecureWorld(t, c.kind, c.port, strings.Repeat("a5", 32))
			w.place(w.inet, w.inet)
			cmd := w.client(w.laptop, "exec", machineName, "--", "cat")
			code, out, said := launch(t, cmd).finish()
			if code == 0 || out != "" || !strings.Contains(said, "pin_mismatch") {
				t.Errorf("exit %d, %q, want pin_mismatch", code, said)
			}
		})
	}
}

// Records of DTLS (RFC 6347): their header, and what is looked for in them.
const (
	recordHeader   = 13
	alertRecord    = 21
	helloRecord    = 22
	serverHello    = 2
	onlySuite      = 0xcca9
	suiteAfterFrom = recordHeader + 12 + 2 + 32 // the length of the session id stands there
)

// TestM13M16DTLSInTheMiddle has somebody between an operator and a relay who ends
// DTLS sessions of others with one datagram, and looks which suite was chosen.
func TestM13M16DTLSInTheMiddle(t *testing.T) {
	t.Parallel()
	w := newSecureWorld(t, "dtls", securePort, "")
	w.place(w.inet, w.inet)
	w.laptop.Allow(w.onlyTo(netlab.UDP, securePort))
	var suite atomic.Uint32
	var injected atomic.Int64
	var old dgram
	w.laptop.Tap(func(up bool, ip []byte) [][]byte {
		d, ok := datagram(ip)
		if !ok || d.src().Port() != securePort && d.dst().Port() != securePort {
			return [][]byte{ip}
		}
		p := d.payload()
		if at := suiteAfterFrom; p[0] == helloRecord && len(p) > at && p[recordHeader] == serverHello && len(p) > at+2+int(p[at]) {
			suite.Store(uint32(binary.BigEndian.Uint16(p[at+1+int(p[at]):])))
		}
		if p[0] == helloRecord || len(p) < recordHeader {
			return [][]byte{ip}
		}
		injected.Add(1)
		if old == nil {
			old = d.with(p)
		}
		return [][]byte{ip, old, d.with(alert(0, 2, 40)), d.with(alert(0, 1, 0)), d.with(alert(1, 1, 0)), d.with([]byte{p[0]}), d.with(make([]byte, 200))}
	})
	s := w.open(talking)
	s.goesOn(gapMost)
	pass(attackFor)
	eventually(t, "a hundred datagrams are injected", func() bool { return injected.Load() >= 100 })
	if s.pause() > gapMost {
		t.Error("the session stood still")
	}
	if way := s.finish(); !strings.HasPrefix(way, "relay-dtls ") {
		t.Errorf("the client says %q", way)
	}
	if suite.Load() != onlySuite {
		t.Errorf("suite %#x", suite.Load())
	}
}

// alert is a record that says that the other side has ended, in an epoch.
func alert(epoch uint16, level, what byte) []byte {
	b := []byte{alertRecord, 0xfe, 0xfd}
	b = binary.BigEndian.AppendUint16(b, epoch)
	return append(b, 0, 0, 0, 0, 0xff, 0, 0, 2, level, what)
}
