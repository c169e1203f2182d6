package carrier

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/udp"
	"github.com/tucdesk/tucdesk/relay/guard"
	"github.com/tucdesk/tucdesk/relay/hop"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second // bounds every wait of a test

// far is the other end of every kind: it sends back what it hears.
type far struct {
	id    *hop.Identity
	addrs map[Kind]string
	conns sync.WaitGroup
}

func echo(conn net.Conn) {
	defer conn.Close()
	b := make([]byte, 4096)
	for {
		n, err := conn.Read(b)
		if err == nil {
			_, err = conn.Write(b[:n])
		}
		if err != nil {
			return
		}
	}
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// accept serves every connection of l until the test ends.
func (f *far) accept(l net.Listener, serve func(net.Conn)) {
	f.conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f.conns.Go(func() { serve(conn) })
		}
	})
}

func newFar(t testing.TB) *far {
	t.Helper()
	id, err := hop.New()
	if err != nil {
		t.Fatal(err)
	}
	f := &far{id: id, addrs: map[Kind]string{}}
	t.Cleanup(f.conns.Wait)
	plain, secure, web := listen(t), listen(t), listen(t)
	f.accept(plain, echo)
	f.accept(tls.NewListener(secure, id.ServerTLS(hop.ProtoTURN)), echo)
	server := &http.Server{Handler: http.HandlerFunc(f.serveHTTP), ErrorLog: log.New(io.Discard, "", 0)}
	f.conns.Go(func() { server.Serve(tls.NewListener(web, id.ServerTLS(hop.ProtoHTTP))) })
	t.Cleanup(func() { server.Close() })
	sock, err := udp.Listen(netip.MustParseAddrPort("127.0.0.1:0"), udp.Options{})
	if err != nil {
		t.Fatal(err)
	}
	datagrams, err := hop.Listen(sock, hop.ListenerOptions{Identity: id, Enter: guard.NewGate(0, 0).Enter, Take: func(netip.Addr, int) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	f.conns.Go(func() { datagrams.Serve(func(c *hop.Conn) { echo(c) }) })
	t.Cleanup(func() { datagrams.Close() })
	f.addrs[TCP], f.addrs[TLS], f.addrs[WebSocket], f.addrs[DTLS] = plain.Addr().String(), secure.Addr().String(), web.Addr().String(), datagrams.Addr().String()
	return f
}

func (f *far) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != hop.WebSocketPath {
		http.NotFound(w, r)
		return
	}
	if conn, err := hop.AcceptWebSocket(w, r); err == nil {
		echo(conn)
	}
}

func (f *far) target(k Kind) Target {
	return Target{Kind: k, Addr: f.addrs[k], Pin: key.Hash(f.id.Pin())}
}

var kinds = []Kind{TCP, TLS, DTLS, WebSocket}

func echoes(t testing.TB, conn net.Conn, what string) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, what); err != nil {
		t.Fatalf("write: %v", err)
	}
	b := make([]byte, len(what)+100)
	n := 0
	for n < len(what) {
		got, err := conn.Read(b[n:])
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		n += got
	}
	if string(b[:n]) != what {
		t.Fatalf("%q came back as %q", what, b[:n])
	}
}

func TestEveryKindCarriesBytesAndEnds(t *testing.T) {
	f := newFar(t)
	for _, k := range kinds {
		t.Run(k.String(), func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			conn, err := Dial(ctx, f.target(k))
			if err != nil {
				t.Fatal(err)
			}
			cancel() // bounds the dialling only
			echoes(t, conn, "x")
			echoes(t, conn, strings.Repeat("0123456789", 125))
			if conn.RemoteAddr().String() != f.addrs[k] || conn.LocalAddr() == nil {
				t.Errorf("from %v to %v", conn.LocalAddr(), conn.RemoteAddr())
			}
			waiting := make(chan error, 1)
			conn.SetReadDeadline(time.Time{})
			go func() {
				_, err := conn.Read(make([]byte, 2048))
				waiting <- err
			}()
			if err := conn.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			if err := <-waiting; !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
				t.Errorf("a read that waited: %v", err)
			}
			conn.Close()
		})
	}
}

func TestKindsHaveNames(t *testing.T) {
	for k, want := range map[Kind]string{TCP: "tcp", TLS: "tls", DTLS: "dtls", WebSocket: "ws", 9: "kind 9"} {
		if k.String() != want || k.Stream() == (k == DTLS) {
			t.Errorf("%v, stream %v", k, k.Stream())
		}
	}
}

// fails dials and checks what the error names.
func fails(t *testing.T, to Target, leg Leg, want string) error {
	t.Helper()
	conn, err := Dial(t.Context(), to)
	var e *Error
	if conn != nil || !errors.As(err, &e) || e.Leg != leg || e.Kind != to.Kind || !strings.Contains(err.Error(), want) {
		t.Errorf("%v: want %q at %q, got %v", to.Kind, want, leg, err)
	}
	return err
}

func TestM18AnotherKeyIsRefused(t *testing.T) {
	f := newFar(t)
	for _, k := range kinds[1:] {
		to := f.target(k)
		to.Pin[31] ^= 1
		if err := fails(t, to, LegHandshake, "not the pinned one"); refusal.Of(err) != refusal.PinMismatch {
			t.Errorf("%v: %v", k, err)
		}
		to.Pin = key.Hash{}
		fails(t, to, LegHandshake, "no key is pinned")
	}
}

// refusing is an address where nobody listens, and nobody can as long as the test runs:
// it is that of a connection. One that was closed may be another program's soon.
func refusing(t *testing.T, udp bool) string {
	t.Helper()
	network := "tcp4"
	to := listen(t).Addr().String()
	if udp {
		network = "udp4"
	}
	c, err := net.Dial(network, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().String()
}

func TestErrorsNameTheLeg(t *testing.T) {
	f := newFar(t)
	for _, k := range kinds {
		to := f.target(k)
		leg := LegConnect
		if k == DTLS {
			leg = LegHandshake // UDP has no connection to refuse
		}
		to.Addr = refusing(t, leg == LegHandshake)
		fails(t, to, leg, "refused")
		to.Addr = "no port"
		fails(t, to, LegConnect, "no port")
	}
	// What listens there speaks something else.
	to := f.target(TLS)
	to.Addr = f.addrs[TCP]
	fails(t, to, LegHandshake, "tls:")
	to = f.target(WebSocket)
	to.Addr = f.addrs[TLS] // which does not know HTTP
	fails(t, to, LegHandshake, "protocol")
	fails(t, Target{Kind: 9, Pin: key.Hash{1}}, LegConnect, "unknown kind")
}

func TestUpgradeTakesNoOtherAnswer(t *testing.T) {
	f := newFar(t)
	for name, answer := range map[string]struct{ text, want string }{
		"not found":      {"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "404"},
		"elsewhere":      {"HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/relay\r\nContent-Length: 0\r\n\r\n", "302"},
		"no upgrade":     {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200"},
		"a wrong accept": {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: nonsense\r\n\r\n", "Accept"},
		"endless head":   {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2*maxReply) + "\r\n\r\n", "head"},
		"garbage":        {"\x00\x01\x02\r\n\r\n", "malformed"},
		"nothing":        {"", "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			l := listen(t)
			f.accept(tls.NewListener(l, f.id.ServerTLS(hop.ProtoHTTP)), func(conn net.Conn) {
				defer conn.Close()
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					io.WriteString(conn, answer.text)
				}
			})
			to := f.target(WebSocket)
			to.Addr = l.Addr().String()
			fails(t, to, LegUpgrade, answer.want)
		})
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	f := newFar(t)
	silent := listen(t)
	f.accept(silent, func(conn net.Conn) {
		defer conn.Close()
		io.Copy(io.Discard, conn)
	})
	deaf, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	for _, tc := range []struct {
		kind  Kind
		addr  string
		proxy string
	}{
		{TLS, silent.Addr().String(), ""}, {WebSocket, silent.Addr().String(), ""}, {DTLS, deaf.LocalAddr().String(), ""},
		{TCP, f.addrs[TCP], "http://" + silent.Addr().String()}, {TCP, f.addrs[TCP], "socks5://" + silent.Addr().String()},
		{TLS, f.addrs[TLS], "https://" + silent.Addr().String()},
	} {
		t.Run(tc.kind.String()+tc.proxy, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			to := Target{Kind: tc.kind, Addr: tc.addr, Pin: key.Hash{1}, Proxy: via(t, tc.proxy)}
			start := time.Now()
			_, err := Dial(ctx, to)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
			if d := time.Since(start); d >= within {
				t.Errorf("it took %v", d)
			}
		})
	}
}
