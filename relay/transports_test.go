package relay

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/carrier"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/relay/guard"
	"github.com/tucdesk/tucdesk/relay/hop"
)

// all are the transports of a relay, as the tests name them.
var all = []string{"udp", "tcp", "tls", "dtls", "ws"}

// serveAll runs a relay with every transport.
func serveAll(t testing.TB, edit func(*Config)) *Server {
	t.Helper()
	id, err := hop.New()
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, func(c *Config) {
		c.TLS, c.DTLS, c.Identity, c.WebSocket = anyPort(), anyPort(), id, true
		if edit != nil {
			edit(c)
		}
	})
}

func target(s *Server, transport string) carrier.Target {
	at, to := s.Addrs(), carrier.Target{}
	if s.cfg.Identity != nil {
		to.Pin = key.Hash(s.cfg.Identity.Pin())
	}
	switch transport {
	case "tcp":
		to.Kind, to.Addr = carrier.TCP, at.TCP.String()
	case "tls":
		to.Kind, to.Addr = carrier.TLS, at.TLS.String()
	case "dtls":
		to.Kind, to.Addr = carrier.DTLS, at.DTLS.String()
	case "ws":
		to.Kind, to.Addr = carrier.WebSocket, at.TLS.String()
	}
	return to
}

// dialVia connects as an endpoint does, over any transport.
func dialVia(t testing.TB, s *Server, transport string, cred credential.Credential) *raw {
	t.Helper()
	if transport == "udp" {
		return dialRaw(t, s, "udp", cred)
	}
	conn, err := carrier.Dial(t.Context(), target(s, transport))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &raw{t: t, conn: guarded(t, conn, transport), cred: cred}
}

// late reports that a read has waited in vain.
func late(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

func guarded(t testing.TB, conn net.Conn, transport string) net.Conn {
	t.Helper()
	opt := guard.Options{Side: guard.Client}
	var g net.Conn
	var err error
	if transport == "dtls" {
		g, err = guard.NewDatagrams(conn, opt)
	} else {
		g, err = guard.NewConn(conn, opt)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestChannelDataIsForwardedUnchangedBetweenAllTransports(t *testing.T) {
	t.Parallel()
	s := serveAll(t, nil)
	for _, from := range all {
		for _, to := range all {
			t.Run(from+"-"+to, func(t *testing.T) {
				oc, ac := mint(s)
				o, a := dialVia(t, s, from, oc).join(), dialVia(t, s, to, ac).join()
				for _, payload := range []string{"", "x", "four", "seven b", repeat('y', 1248)} {
					o.send(frame(payload))
					a.hears(payload)
					a.send(frame(payload))
					o.hears(payload)
				}
			})
		}
	}
}

func TestM18RelayWithAnotherKeyIsLeft(t *testing.T) {
	s := serveAll(t, nil)
	for _, transport := range []string{"tls", "dtls", "ws"} {
		to := target(s, transport)
		to.Pin[0] ^= 1
		conn, err := carrier.Dial(t.Context(), to)
		var e *carrier.Error
		if conn != nil || !errors.As(err, &e) || e.Leg != carrier.LegHandshake || !strings.Contains(err.Error(), "pin_mismatch") {
			t.Errorf("%s: %v, %v", transport, conn, err)
		}
	}
	if n := s.gate.Open(); n > 0 {
		until(t, "the connections to end", func() bool { return s.gate.Open() == 0 })
	}
}

func TestM4StreamProbesAreClosedOnEveryStream(t *testing.T) {
	s := serveAll(t, nil)
	for _, transport := range []string{"tcp", "tls", "ws"} {
		for _, probe := range []string{"\x00\x00\xff\xec\x21\x12\xa4\x42" + repeat(0, 12), "\x40\x00\xff\xfc" + repeat(0, 16), "GET / HTTP/1.1\r\n\r\n"} {
			conn, err := carrier.Dial(t.Context(), target(s, transport))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(conn, probe); err != nil {
				t.Fatal(err)
			}
			conn.SetReadDeadline(time.Now().Add(patience))
			if _, err := conn.Read(make([]byte, 1)); err == nil || late(err) {
				t.Errorf("%s, %q: %v", transport, probe[:4], err)
			}
			conn.Close()
		}
	}
	until(t, "all places to be given back", func() bool { return s.gate.Open() == 0 })
}

func TestM5ProbesOnEveryTransportKillNobody(t *testing.T) {
	s := serveAll(t, nil)
	for _, transport := range all {
		oc, ac := mint(s)
		o, a := dialVia(t, s, transport, oc).join(), dialVia(t, s, transport, ac).join()
		for _, typ := range []string{"\x00\x16", "\x00\x17"} {
			o.send([]byte(typ + "\x00\x0c\x21\x12\xa4\x42" + repeat(0, 12) + "\x00\x13\x00\x04\x00\x00\x00\x00\x00\x12\x00\x00"))
		}
		o.send(frame("still here"))
		a.hears("still here")
	}
}

func TestM7QuotasCountAllTransportsTogether(t *testing.T) {
	s := serveAll(t, func(c *Config) { c.Limits.AllocationsPerSource = len(all) })
	for _, transport := range all {
		oc, _ := mint(s)
		dialVia(t, s, transport, oc).join()
	}
	for _, transport := range all {
		oc, _ := mint(s)
		if got := dialVia(t, s, transport, oc).allocate(); got != 508 {
			t.Errorf("%s: %d", transport, got)
		}
	}
	if snap := s.Snapshot(); snap.Allocations != len(all) || snap.Events["quota_source"] != uint64(len(all)) {
		t.Errorf("%+v", snap)
	}
}

func TestM11ConnectionsOfAllTransportsShareTheCaps(t *testing.T) {
	t.Parallel()
	s := serveAll(t, func(c *Config) { c.Limits.ConnectionsPerSource = 4 })
	for _, transport := range all[1:] {
		oc, _ := mint(s)
		dialVia(t, s, transport, oc).join()
	}
	for _, transport := range all[1:] {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		conn, err := carrier.Dial(ctx, target(s, transport))
		cancel()
		if err != nil {
			continue // closed in the handshake
		}
		conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := conn.Read(make([]byte, 1)); err == nil || late(err) {
			t.Errorf("%s: a fifth connection", transport)
		}
		conn.Close()
	}
	if n := s.gate.Open(); n != 4 {
		t.Errorf("%d places taken", n)
	}
}

// A client that says nothing is let go, whatever it has reached so far. The time
// limits are the guard's, which tests them; here they must apply.
func TestM11SilentConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	s := serveAll(t, nil)
	at, open := s.Addrs(), map[string]net.Conn{}
	for name, addr := range map[string]string{"tcp": at.TCP.String(), "tls before its handshake": at.TLS.String()} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "\x16"); err != nil {
			t.Fatal(err)
		}
		open[name] = conn
	}
	for _, proto := range []string{hop.ProtoTURN, hop.ProtoHTTP} {
		conn, err := tls.Dial("tcp", at.TLS.String(), hop.ClientTLS(s.cfg.Identity.Pin(), proto))
		if err != nil {
			t.Fatal(err)
		}
		open[proto] = conn
	}
	for name, conn := range open {
		conn.SetReadDeadline(time.Now().Add(guard.FirstFrameTimeout + patience))
		if _, err := conn.Read(make([]byte, 1)); err == nil || late(err) {
			t.Errorf("%s: %v", name, err)
		}
		conn.Close()
	}
	until(t, "all places to be given back", func() bool { return s.gate.Open() == 0 })
}

func TestOnlyTLS13IsSpoken(t *testing.T) {
	s := serveAll(t, nil)
	cfg := hop.ClientTLS(s.cfg.Identity.Pin(), hop.ProtoTURN)
	cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if conn, err := tls.Dial("tcp", s.Addrs().TLS.String(), cfg); err == nil {
		conn.Close()
		t.Error("TLS 1.2 was taken")
	}
	until(t, "the failure to be counted", func() bool { return s.Snapshot().Events["handshake"] == 1 })
}

func TestAClientThatNamesNoProtocolGetsTURN(t *testing.T) {
	s := serveAll(t, nil)
	cfg := hop.ClientTLS(s.cfg.Identity.Pin(), "")
	cfg.NextProtos = nil
	conn, err := tls.Dial("tcp", s.Addrs().TLS.String(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	oc, _ := mint(s)
	(&raw{t: t, conn: guarded(t, conn, "tls"), cred: oc}).join()
}

// elsewhere is the HTTPS server of another program that leads to the relay.
func elsewhere(t *testing.T, s *Server) (addr string, pin key.Hash) {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(hop.WebSocketPath, s.WebSocket())
	web := httptest.NewUnstartedServer(mux)
	web.EnableHTTP2 = true
	web.StartTLS()
	t.Cleanup(web.Close)
	spki, err := x509.MarshalPKIXPublicKey(web.Certificate().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return web.Listener.Addr().String(), sha256.Sum256(spki)
}

func TestWebSocketOfAnotherServerLeadsToTheRelay(t *testing.T) {
	s := serve(t, func(c *Config) { c.TCP = netip.AddrPort{}; c.Limits.ConnectionsPerSource = 1 })
	addr, pin := elsewhere(t, s)
	oc, ac := mint(s)
	a := dialRaw(t, s, "udp", ac).join()
	conn, err := carrier.Dial(t.Context(), carrier.Target{Kind: carrier.WebSocket, Addr: addr, Pin: pin})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	o := (&raw{t: t, conn: guarded(t, conn, "ws"), cred: oc}).join()
	o.send(frame("over another server"))
	a.hears("over another server")
	_, err = carrier.Dial(t.Context(), carrier.Target{Kind: carrier.WebSocket, Addr: addr, Pin: pin})
	if err == nil || !strings.Contains(err.Error(), "upgrade: the server answers 503") {
		t.Errorf("over the cap: %v", err)
	}
	s.Close()
	conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, conn); late(err) {
		t.Error("the WebSocket outlived the relay")
	}
	until(t, "its place to be given back", func() bool { return s.gate.Open() == 0 })
}

func TestTLSAddressAnswersNothingButUpgrades(t *testing.T) {
	t.Parallel()
	s := serveAll(t, nil)
	const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Protocol: " + hop.WebSocketProto + "\r\n"
	for _, tc := range []struct {
		line, head string
		want       int
	}{
		{"GET /relay", upgrade, http.StatusSwitchingProtocols},
		{"GET /relay", upgrade + "Origin: https://relay.example\r\n", http.StatusForbidden},
		{"GET /relay", upgrade + "Origin: \r\n", http.StatusForbidden},
		{"GET /relay", "", http.StatusUpgradeRequired},
		{"POST /relay", upgrade, http.StatusMethodNotAllowed},
		{"GET /", upgrade, http.StatusNotFound},
		{"GET /relay/../x", upgrade, http.StatusNotFound},
		{"GET /%72elay", upgrade, http.StatusNotFound},
		{"GET /relay?x=1", upgrade, http.StatusNotFound},
		{"GET https://relay.example/relay", upgrade, http.StatusNotFound},
		{"GET /relay", "X: " + repeat('x', 2*maxRequest) + "\r\n", http.StatusRequestHeaderFieldsTooLarge},
	} {
		conn, err := tls.Dial("tcp", s.Addrs().TLS.String(), hop.ClientTLS(s.cfg.Identity.Pin(), hop.ProtoHTTP))
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(conn, tc.line+" HTTP/1.1\r\nHost: relay.example\r\n"+tc.head+"\r\n"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Errorf("%s: %v", tc.line, err)
		} else if res.Body.Close(); res.StatusCode != tc.want {
			t.Errorf("%s, %.20q: %d, want %d", tc.line, tc.head, res.StatusCode, tc.want)
		}
		conn.Close()
	}
	until(t, "all places to be given back", func() bool { return s.gate.Open() == 0 })
}

// One frame may come in several messages, and several frames in one.
func TestWebSocketMessagesHaveNoBoundaries(t *testing.T) {
	s := serveAll(t, nil)
	oc, ac := mint(s)
	o, a := dialVia(t, s, "ws", oc).join(), dialVia(t, s, "udp", ac).join()
	both := append(frame("first"), frame("second one")...)
	for _, b := range both {
		o.send([]byte{b})
	}
	a.hears("first")
	a.hears("second one")
	o.send(both)
	a.hears("first")
	a.hears("second one")
}

func TestStreamsThatDoNotDrainLoseDataOnly(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"tls", "ws"} {
		t.Run(transport, func(t *testing.T) {
			s := serveAll(t, nil)
			oc, ac := mint(s)
			o, a := dialVia(t, s, "udp", oc).join(), dialVia(t, s, transport, ac).join()
			big := frame(repeat('x', 1248))
			until(t, "the queue to fill", func() bool {
				for range 100 {
					o.send(big)
				}
				return s.Snapshot().Events["queue_full"] > 0
			})
			a.hears(repeat('x', 1248)) // still framed, still served
			a.send(frame("back"))
			o.hears("back")
		})
	}
}

func TestCloseEndsEveryTransport(t *testing.T) {
	s := serveAll(t, nil)
	for _, transport := range all {
		oc, _ := mint(s)
		dialVia(t, s, transport, oc).join()
	}
	start := time.Now()
	s.Close()
	until(t, "allocations and places to end", func() bool { return s.Snapshot().Allocations == 0 && s.gate.Open() == 0 })
	if d := time.Since(start); d > patience/2 {
		t.Errorf("it took %v", d)
	}
}

// BenchmarkIdleConnection measures what the relay holds for one client that has an
// allocation and is silent. The clients hold theirs in the same process, which an
// equal number of plain TCP clients, measured first, tells apart only roughly.
func BenchmarkIdleConnection(b *testing.B) {
	for _, transport := range all[1:] {
		b.Run(transport, func(b *testing.B) {
			s := serveAll(b, func(c *Config) {
				c.Limits.ConnectionsPerSource, c.Limits.AllocationsPerSource, c.Limits.ControlPerSecond, c.Limits.ControlTotal = 1<<20, 1<<20, 1<<20, 1<<20
			})
			before, routines := inUse(), runtime.NumGoroutine()
			for range b.N {
				oc, _ := mint(s)
				dialVia(b, s, transport, oc).join()
			}
			b.ReportMetric(float64(inUse()-before)/float64(b.N)/1024, "KiB/both-ends")
			b.ReportMetric(float64(runtime.NumGoroutine()-routines)/float64(b.N), "goroutines/both-ends")
		})
	}
}

func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// BenchmarkForwardBetween measures one frame of full size from UDP to a transport.
func BenchmarkForwardBetween(b *testing.B) {
	for _, transport := range all {
		b.Run(fmt.Sprintf("%s-%s", transport, transport), func(b *testing.B) {
			s := serveAll(b, nil)
			oc, ac := mint(s)
			o, a := dialVia(b, s, transport, oc).join(), dialVia(b, s, transport, ac).join()
			f, buf := frame(repeat('x', 1248)), make([]byte, 2048)
			b.SetBytes(1248)
			const window = 32 // frames under way: fewer than any queue holds
			for sent, got := 0, 0; got < b.N; {
				for sent < b.N && sent-got < window {
					o.send(f)
					sent++
				}
				a.conn.SetReadDeadline(time.Now().Add(patience))
				if _, err := a.conn.Read(buf); err != nil {
					b.Fatal(err)
				}
				got++
			}
		})
	}
}
