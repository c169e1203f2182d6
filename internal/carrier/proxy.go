package carrier

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/net/proxy"
)

// maxReply is the longest head of an answer that is read from a proxy, in bytes.
// Our choice.
const maxReply = 16 << 10

// proxy asks which proxy to take. It returns nil for none.
func (t Target) proxy() (*url.URL, error) {
	if t.Proxy == nil {
		return nil, nil
	}
	return t.Proxy(&http.Request{Method: http.MethodConnect, URL: &url.URL{Scheme: "https", Host: t.Addr, Path: "/"}, Host: t.Addr})
}

// throughProxy reaches addr through a proxy. Errors show the proxy's host, never
// its password.
func throughProxy(ctx context.Context, via *url.URL, addr string) (net.Conn, error) {
	var conn net.Conn
	var err error
	switch via.Scheme {
	case "http", "https":
		conn, err = connect(ctx, via, addr)
	case "socks5", "socks5h":
		conn, err = socks(ctx, via, addr)
	default:
		err = fmt.Errorf("%q is no kind of proxy: want http, https or socks5", via.Scheme)
	}
	if err != nil {
		return nil, fmt.Errorf("proxy %q: %w", via.Host, err)
	}
	return conn, nil
}

func withPort(via *url.URL, port string) string {
	return net.JoinHostPort(via.Hostname(), cmp.Or(via.Port(), port))
}

func socks(ctx context.Context, via *url.URL, addr string) (net.Conn, error) {
	var auth *proxy.Auth
	if via.User != nil {
		password, _ := via.User.Password()
		auth = &proxy.Auth{User: via.User.Username(), Password: password}
	}
	d, err := proxy.SOCKS5("tcp", withPort(via, "1080"), auth, dialer())
	if err != nil {
		return nil, err
	}
	with, ok := d.(proxy.ContextDialer)
	if !ok {
		return nil, errors.New("socks5 without a context")
	}
	return with.DialContext(ctx, "tcp", addr)
}

// connect runs HTTP's CONNECT (RFC 9110, section 9.3.6). A proxy that speaks TLS
// itself is checked as any web server is: it has a name, and we no pin for it.
func connect(ctx context.Context, via *url.URL, addr string) (net.Conn, error) {
	port := "80"
	if via.Scheme == "https" {
		port = "443"
	}
	conn, err := dialer().DialContext(ctx, "tcp", withPort(via, port))
	if err != nil {
		return nil, err
	}
	if via.Scheme == "https" {
		conn = tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS12, ServerName: via.Hostname(), NextProtos: []string{"http/1.1"}})
	}
	// A deadline in the past ends whatever the exchange waits for.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err = ask(conn, via, addr)
	if !stop() {
		err = errors.Join(ctx.Err(), err)
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func ask(conn net.Conn, via *url.URL, addr string) error {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{"User-Agent": nil}}
	if via.User != nil {
		password, _ := via.User.Password()
		pair := base64.StdEncoding.EncodeToString([]byte(via.User.Username() + ":" + password))
		req.Header.Set("Proxy-Authorization", "Basic "+pair)
	}
	if err := req.Write(conn); err != nil {
		return err
	}
	in := bufio.NewReader(io.LimitReader(conn, maxReply))
	res, err := http.ReadResponse(in, req)
	if err != nil {
		return fmt.Errorf("no answer to CONNECT: %w", err)
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusProxyAuthRequired && via.User == nil:
		return errors.New("it asks for a user name and a password: put them into its URL")
	case res.StatusCode/100 != 2:
		return fmt.Errorf("it refused CONNECT with %d %s", res.StatusCode, http.StatusText(res.StatusCode))
	case in.Buffered() > 0:
		// No relay speaks first, so this is the proxy's own text.
		return errors.New("it sent more than an answer to CONNECT")
	}
	return nil
}
