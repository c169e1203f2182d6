package carrier

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

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
	to.Proxy = func(*http.Request) (*url.URL, error) { return nil, errors.New("HTTPS_PROXY is wrong") }
	fails(t, to, LegProxy, "HTTPS_PROXY is wrong")
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
