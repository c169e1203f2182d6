package endtoend

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/client"
)

// middle holds the server's TLS key and stands in front of it: whatever it passes
// on, it can read, keep and send again.
type middle struct {
	t      testing.TB
	server string
	pin    *tls.Config

	mu    sync.Mutex
	calls []call // guarded by mu; those that carried a proof
}

// call is one request as it passed.
type call struct {
	method, target string
	header         http.Header
	body           []byte
}

// standBetween moves the world's server to another port, which its people do not
// know, and puts the attacker on theirs.
func (w *world) standBetween() *middle {
	w.t.Helper()
	w.server.stop()
	m := &middle{t: w.t, server: freeAddr(w.t), pin: client.TLSConfig(w.ann.member().Pin)}
	text := string(must(os.ReadFile(w.path("server.toml"))))
	write(w.t, w.path("server.toml"), strings.Replace(text, "\nlisten = \""+w.addr, "\nlisten = \""+m.server, 1))
	w.startServer()
	cert := must(tls.LoadX509KeyPair(w.path("server", "tls.crt"), w.path("server", "tls.key")))
	ln, err := net.Listen("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "https", Host: m.server})
			r.Out.Host = r.In.Host
		},
		Transport: &http.Transport{TLSClientConfig: m.pin},
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body := must(io.ReadAll(r.Body))
		r.Body = io.NopCloser(bytes.NewReader(body))
		m.mu.Lock()
		if r.Header.Get(wire.ProofHeader) != "" {
			m.calls = append(m.calls, call{r.Method, r.URL.RequestURI(), r.Header.Clone(), body})
		}
		m.mu.Unlock()
		proxy.ServeHTTP(rw, r)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}))
	}()
	w.t.Cleanup(func() {
		_ = srv.Close()
		<-done
		proxy.Transport.(*http.Transport).CloseIdleConnections()
	})
	return m
}

// last is the newest call with a proof.
func (m *middle) last() call {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.calls) == 0 {
		m.t.Fatal("no call with a proof has passed")
	}
	return m.calls[len(m.calls)-1]
}

// again sends a call to the server as the attacker's own and returns the code of
// the refusal, "" when it was taken.
func (m *middle) again(c call) refusal.Code {
	m.t.Helper()
	req := must(http.NewRequestWithContext(m.t.Context(), c.method, "https://"+m.server+c.target, bytes.NewReader(c.body)))
	req.Header = c.header
	transport := &http.Transport{TLSClientConfig: m.pin}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	var p wire.Problem
	if resp.StatusCode/100 == 2 {
		return ""
	}
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
		m.t.Fatalf("status %d: %v", resp.StatusCode, err)
	}
	return p.Code
}

// TestManInTheMiddleWithTheServersKey: a stolen TLS key alone reads what a server
// reads. It cannot log in as anybody, register as a machine, or use a proof for
// anything that its owner did not do with it, once.
func TestManInTheMiddleWithTheServersKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web := w.join("web", "web")
	w.ann.run("login").is(t, 0)
	m := w.standBetween()

	t.Run("C B16 a login names its connection", func(t *testing.T) {
		w.ann.run("login").refused(t, 255, "wrong_channel")
	})
	t.Run("B16 so does a registration", func(t *testing.T) {
		p := web.run()
		p.says("wrong_channel", 1)
		p.stop()
	})
	w.ann.run("exec", "web", "--", "true").refused(t, 251, "offline") // with the JWT of before
	opened := m.last()
	t.Run("D2 the same proof again", func(t *testing.T) {
		if code := m.again(opened); code != refusal.Replay {
			t.Errorf("the server says %q, want replay", code)
		}
	})
	w.ann.run("token", "create", "--tags", "web").is(t, 0)
	token := m.last()
	for name, c := range map[string]struct {
		call call
		want refusal.Code
	}{
		"D2 a token published again":     {token, refusal.Replay},
		"D3 one more byte in the body":   {call{token.method, token.target, token.header, append(bytes.Clone(token.body), ' ')}, refusal.ProofMismatch},
		"D3 another body":                {call{token.method, token.target, token.header, opened.body}, refusal.ProofMismatch},
		"D3 another path":                {call{token.method, wire.PathRoster, token.header, token.body}, refusal.ProofMismatch},
		"D3 a query added":               {call{token.method, token.target + "?x=1", token.header, token.body}, refusal.BadRequest},
		"D4 the proof of another call":   {call{token.method, token.target, with(token.header, wire.ProofHeader, opened.header.Get(wire.ProofHeader)), token.body}, refusal.ProofMismatch},
		"D1 no proof":                    {call{token.method, token.target, with(token.header, wire.ProofHeader, ""), token.body}, refusal.ProofRequired},
		"C11 the proof as the JWT":       {call{token.method, token.target, with(token.header, "Authorization", "Bearer "+token.header.Get(wire.ProofHeader)), token.body}, refusal.WrongType},
		"C10 a JWT with one bit changed": {call{token.method, token.target, with(token.header, "Authorization", bent(token.header.Get("Authorization"))), token.body}, refusal.BadSignature},
	} {
		t.Run(name, func(t *testing.T) {
			if code := m.again(c.call); code != c.want {
				t.Errorf("the server says %q, want %s", code, c.want)
			}
		})
	}
	t.Run("D8 the same proof after a restart", func(t *testing.T) {
		w.server.kill()
		w.startServer()
		if code := m.again(token); code != refusal.Replay {
			t.Errorf("the server says %q, want replay", code)
		}
	})
}

func with(h http.Header, name, value string) http.Header {
	h = h.Clone()
	h.Del(name)
	if value != "" {
		h.Set(name, value)
	}
	return h
}

// bent changes the first character of the signature.
func bent(bearer string) string {
	i := strings.LastIndexByte(bearer, '.') + 1
	return bearer[:i] + swapped(bearer[i]) + bearer[i+1:]
}
