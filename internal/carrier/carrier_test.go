package carrier

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"net/url"
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

const patience = 10 * time.Second // bounds every wait of a test

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

func TestErrorsNameTheLeg(t *testing.T) {
	f := newFar(t)
	closed := listen(t)
	closed.Close()
	for _, k := range kinds {
		to := f.target(k)
		to.Addr = closed.Addr().String()
		leg := LegConnect
		if k == DTLS {
			leg = LegHandshake // UDP has no connection to refuse
		}
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
			if d := time.Since(start); d > patience/2 {
				t.Errorf("it took %v", d)
			}
		})
	}
}

// via is a choice of proxy that always says the same.
func via(t testing.TB, proxy string) func(*http.Request) (*url.URL, error) {
	if proxy == "" {
		return nil
	}
	u, err := url.Parse(proxy)
	if err != nil {
		t.Fatal(err)
	}
	return func(*http.Request) (*url.URL, error) { return u, nil }
}

// tunnel is an HTTP proxy that wants a password.
func (f *far) tunnel(t testing.TB, seen func(*http.Request)) string {
	l := listen(t)
	f.accept(l, func(conn net.Conn) {
		defer conn.Close()
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil || r.Method != http.MethodConnect {
			return
		}
		seen(r)
		if r.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte("user:p@ss")) {
			io.WriteString(conn, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
			return
		}
		f.join(conn, r.Host, "HTTP/1.1 200 Connection established\r\n\r\n")
	})
	return l.Addr().String()
}

func (f *far) join(conn net.Conn, to, first string) {
	up, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer up.Close()
	io.WriteString(conn, first)
	back := make(chan struct{})
	go func() {
		defer close(back)
		io.Copy(conn, up)
		conn.Close()
	}()
	io.Copy(up, conn)
	up.Close()
	<-back
}

func TestStreamsGoThroughAnHTTPProxy(t *testing.T) {
	f := newFar(t)
	asked := make(chan string, 10)
	addr := f.tunnel(t, func(r *http.Request) {
		asked <- r.RequestURI
		if r.Header.Get("User-Agent") != "" {
			t.Errorf("it says who it is: %q", r.Header.Get("User-Agent"))
		}
	})
	for _, k := range []Kind{TCP, TLS, WebSocket} {
		to := f.target(k)
		to.Proxy = via(t, "http://user:p%40ss@"+addr)
		conn, err := Dial(t.Context(), to)
		if err != nil {
			t.Fatalf("%v: %v", k, err)
		}
		echoes(t, conn, "through")
		conn.Close()
		if got := <-asked; got != to.Addr {
			t.Errorf("%v: asked for %q", k, got)
		}
		to.Proxy = via(t, "http://"+addr)
		fails(t, to, LegProxy, "asks for a user name and a password")
		<-asked
		to.Proxy = via(t, "http://user:secretword@"+addr)
		if err := fails(t, to, LegProxy, "refused CONNECT with 407"); strings.Contains(fmt.Sprint(err), "secretword") {
			t.Errorf("%v", err)
		}
		<-asked
	}
	to := f.target(DTLS) // goes past every proxy
	to.Proxy = func(*http.Request) (*url.URL, error) { return nil, errors.New("asked") }
	conn, err := Dial(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestM18AProxyCannotPutItselfBetween(t *testing.T) {
	f, liar := newFar(t), newFar(t)
	l := listen(t)
	f.accept(l, func(conn net.Conn) { // it connects to a relay of its own
		defer conn.Close()
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			f.join(conn, liar.addrs[TLS], "HTTP/1.1 200 OK\r\n\r\n")
		}
	})
	to := f.target(TLS)
	to.Proxy = via(t, "http://"+l.Addr().String())
	if err := fails(t, to, LegHandshake, "not the pinned one"); refusal.Of(err) != refusal.PinMismatch {
		t.Error(err)
	}
}

func TestProxiesThatAnswerNonsense(t *testing.T) {
	f := newFar(t)
	for answer, want := range map[string]string{
		"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n":  "refused CONNECT with 403 Forbidden",
		"HTTP/1.1 502 \x1b[2Jboo\r\nContent-Length: 0\r\n\r\n": "refused CONNECT with 502 Bad Gateway",
		"HTTP/1.1 200 OK\r\n\r\nhello":                         "more than an answer",
		"":                                                     "no answer",
		"SSH-2.0-OpenSSH\r\n":                                  "no answer",
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2*maxReply): "no answer",
	} {
		l := listen(t)
		f.accept(l, func(conn net.Conn) {
			defer conn.Close()
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				io.WriteString(conn, answer)
			}
		})
		to := f.target(TCP)
		to.Proxy = via(t, "http://"+l.Addr().String())
		if err := fails(t, to, LegProxy, want); strings.ContainsRune(fmt.Sprint(err), 0x1b) {
			t.Errorf("%q", err)
		}
	}
	to := f.target(TCP)
	for proxy, want := range map[string]string{"ftp://proxy.example": "no kind of proxy", "http://127.0.0.1:1": "refused", "socks5://127.0.0.1:1": "refused", "https://" + f.addrs[WebSocket]: "certificate"} {
		to.Proxy = via(t, proxy)
		fails(t, to, LegProxy, want)
	}
	to.Proxy = func(*http.Request) (*url.URL, error) { return nil, errors.New("parse http://user:secretword@") }
	if err := fails(t, to, LegProxy, "not a URL"); strings.Contains(err.Error(), "secretword") {
		t.Error(err)
	}
}

// A socks5 proxy by RFC 1928 and 1929, as far as a client of ours needs one.
func (f *far) socks(t testing.TB) string {
	l := listen(t)
	f.accept(l, func(conn net.Conn) {
		defer conn.Close()
		in := bufio.NewReader(conn)
		next := func(n int) []byte {
			b := make([]byte, n)
			io.ReadFull(in, b)
			return b
		}
		if methods := next(int(next(2)[1])); !bytes.Contains(methods, []byte{2}) {
			conn.Write([]byte{5, 0xff})
			return
		}
		conn.Write([]byte{5, 2})
		user := string(next(int(next(2)[1])))
		if password := string(next(int(next(1)[0]))); user != "user" || password != "p@ss" {
			conn.Write([]byte{1, 1})
			return
		}
		conn.Write([]byte{1, 0})
		head := next(4)
		if head[3] != 1 {
			return
		}
		to := next(6)
		f.join(conn, fmt.Sprintf("%d.%d.%d.%d:%d", to[0], to[1], to[2], to[3], int(to[4])<<8|int(to[5])), "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
	})
	return l.Addr().String()
}

func TestStreamsGoThroughASocksProxy(t *testing.T) {
	f := newFar(t)
	addr := f.socks(t)
	for _, k := range []Kind{TCP, TLS, WebSocket} {
		to := f.target(k)
		to.Proxy = via(t, "socks5://user:p%40ss@"+addr)
		conn, err := Dial(t.Context(), to)
		if err != nil {
			t.Fatalf("%v: %v", k, err)
		}
		echoes(t, conn, "through")
		conn.Close()
	}
	to := f.target(TLS)
	to.Proxy = via(t, "socks5://user:secretword@"+addr)
	if err := fails(t, to, LegProxy, "authentication"); strings.Contains(fmt.Sprint(err), "secretword") {
		t.Error(err)
	}
}

func TestProxyOfTheEnvironment(t *testing.T) {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy", "REQUEST_METHOD"} {
		t.Setenv(name, "")
	}
	choice := func(addr string) string {
		t.Helper()
		u, err := Target{Addr: addr, Proxy: FromEnvironment()}.proxy()
		if err != nil {
			t.Fatal(err)
		}
		if u == nil {
			return ""
		}
		return u.String()
	}
	const relay = "relay.example:5349"
	if got := choice(relay); got != "" {
		t.Errorf("nothing set: %q", got)
	}
	t.Setenv("all_proxy", "socks5://small.example:1080")
	if got := choice(relay); got != "socks5://small.example:1080" {
		t.Errorf("all_proxy: %q", got)
	}
	t.Setenv("ALL_PROXY", "socks5://all.example:1080")
	if got := choice(relay); got != "socks5://all.example:1080" {
		t.Errorf("ALL_PROXY: %q", got)
	}
	t.Setenv("HTTPS_PROXY", "http://user:word@proxy.example:3128")
	if got := choice(relay); got != "http://user:word@proxy.example:3128" {
		t.Errorf("HTTPS_PROXY: %q", got)
	}
	t.Setenv("NO_PROXY", "other.example,.corp.example,10.0.0.0/8")
	for addr, want := range map[string]bool{"other.example:443": false, "a.corp.example:443": false, "10.1.2.3:443": false, relay: true, "127.0.0.1:443": false, "localhost:443": false} {
		if got := choice(addr); (got != "") != want {
			t.Errorf("%s: %q", addr, got)
		}
	}
	t.Setenv("HTTPS_PROXY", "://")
	if _, err := (Target{Addr: relay, Proxy: FromEnvironment()}).proxy(); err == nil {
		t.Log("a value that is no URL is ignored, as by every other program")
	}
}
