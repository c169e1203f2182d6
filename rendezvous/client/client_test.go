package client

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// server is a hostile one: it answers whatever handler says.
func server(t testing.TB, handler http.HandlerFunc) Config {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(1, 0)} // long expired: only the key counts
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: k}}}
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return Config{URL: s.URL, Pin: sha256.Sum256(leaf.RawSubjectPublicKeyInfo), Access: key.ID{7}}
}

func open(t testing.TB, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func credentials(t testing.TB) Credentials {
	t.Helper()
	k, err := key.Generate[key.Operator]()
	if err != nil {
		t.Fatal(err)
	}
	return Credentials{Key: k, Team: wire.NewTeamID(), Token: "secret-token"}
}

func wantCode(t testing.TB, err error, code refusal.Code) {
	t.Helper()
	if refusal.Of(err) != code {
		t.Fatalf("got %v, want %s", err, code)
	}
}

func TestOnlyThePinnedKeyIsSpokenTo(t *testing.T) {
	reached := false
	cfg := server(t, func(http.ResponseWriter, *http.Request) { reached = true })
	if err := open(t, cfg).Health(t.Context()); err != nil || !reached {
		t.Fatal(err)
	}
	reached = false
	for i := range cfg.Pin {
		bad := cfg
		bad.Pin[i] ^= 0x80
		wantCode(t, open(t, bad).Health(t.Context()), refusal.PinMismatch)
	}
	bad := cfg
	bad.Pin = key.Hash{}
	wantCode(t, open(t, bad).Health(t.Context()), refusal.PinMismatch)
	if reached {
		t.Fatal("a call went to another server")
	}
}

func TestAddressesThatAreRefused(t *testing.T) {
	for _, url := range []string{"", "http://h", "https://", "https://h/path", "https://h?x", "https://h#x", "https://u:p@h", "wss://h", "https://h:port"} {
		if _, err := New(Config{URL: url}); err == nil {
			t.Errorf("%q was taken", url)
		}
	}
	for url, want := range map[string]string{"https://h": "h:443", "https://h:8443": "h:8443", "https://[::1]": "[::1]:443", "https://h/": "h:443"} {
		if got, err := (Config{URL: url}).host(); err != nil || got != want {
			t.Errorf("%q: %q, %v", url, got, err)
		}
	}
}

func TestProofCoversTheCall(t *testing.T) {
	cred := credentials(t)
	var got *http.Request
	var body []byte
	cfg := server(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		_, _ = io.WriteString(w, "{}")
	})
	c := open(t, cfg)
	agent := key.ID{9}
	if err := c.DeleteAgent(t.Context(), cred, agent); err != nil {
		t.Fatal(err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(got.Header.Get(wire.ProofHeader))
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := statement.Open[wire.Proof](raw, func(key.ID) (statement.Verifier, error) { return cred.Key.Public(), nil })
	if err != nil {
		t.Fatal(err)
	}
	host := strings.TrimPrefix(cfg.URL, "https://")
	if p.Audience != Audience(cfg.Access, host) || p.Method != "DELETE" || p.Target != got.RequestURI || p.Body != sha256.Sum256(body) ||
		p.Token != sha256.Sum256([]byte(cred.Token)) || p.Context.Agent != agent || p.Context.Team != cred.Team || p.Context.Action != wire.ActAgent {
		t.Fatalf("proof %+v", p)
	}
	if got.Header.Get("Authorization") != "Bearer "+cred.Token || got.Header.Get("Cookie") != "" || strings.Contains(got.RequestURI, "token") {
		t.Fatal("the token stands in the wrong place")
	}
	cred.Token = ""
	wantCode(t, c.DeleteAgent(t.Context(), cred, agent), refusal.NotLoggedIn)
}

func TestProblemsKeepTheirHints(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	cfg := server(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(401)
		_ = json.NewEncoder(w).Encode(wire.Problem{Code: refusal.ProofTimeSkew, Detail: "late\x1b]0;x\a\n\u202e", RequestID: "ab", ServerTime: wire.At(now)})
	})
	err := open(t, cfg).Health(t.Context())
	wantCode(t, err, refusal.ProofTimeSkew)
	p, ok := err.(*Problem)
	if !ok || !p.ServerTime.Equal(now) || p.RequestID != "ab" || p.Status != 401 {
		t.Fatalf("%#v", err)
	}
	if strings.ContainsAny(err.Error(), "\x1b\a\n\u202e") {
		t.Fatalf("%q steers a terminal", err)
	}
}

func TestAnswersThatAreNoAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		body   string
		code   refusal.Code
	}{
		"no JSON":       {500, "<html>", refusal.ProtocolError},
		"empty":         {503, "", refusal.ProtocolError},
		"code of ours?": {403, `{"code":"Not A Code!"}`, refusal.ProtocolError},
		"long code":     {403, `{"code":"` + strings.Repeat("a", 65) + `"}`, refusal.ProtocolError},
		"redirect":      {302, "", refusal.ProtocolError},
		"garbage":       {200, "{", refusal.ProtocolError},
		"too long":      {200, strings.Repeat(" ", MaxAnswer+1), refusal.TooLarge},
	} {
		cfg := server(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(tc.status)
			_, _ = io.WriteString(w, tc.body)
		})
		_, err := open(t, cfg).Tokens(t.Context(), credentials(t))
		if refusal.Of(err) != tc.code {
			t.Errorf("%s: got %v, want %s", name, err, tc.code)
		}
	}
}

func TestNobodyThereIsUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	wantCode(t, open(t, Config{URL: "https://" + addr}).Health(t.Context()), refusal.Unreachable)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := open(t, Config{URL: "https://" + addr}).Health(ctx); refusal.Of(err) != "" || ctx.Err() == nil {
		t.Fatalf("a cancelled call is %v", err)
	}
}

func TestLoginSignsItsOwnConnection(t *testing.T) {
	cred := credentials(t)
	var mu sync.Mutex
	var failure error
	cfg := server(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		var req wire.LoginRequest
		raw, _ := io.ReadAll(r.Body)
		if failure = json.Unmarshal(raw, &req); failure != nil {
			return
		}
		login, _, err := statement.Open[wire.Login](req.Login, func(key.ID) (statement.Verifier, error) { return cred.Key.Public(), nil })
		want, _ := r.TLS.ExportKeyingMaterial(wire.ExporterLabel, nil, 32)
		if err != nil || !bytes.Equal(login.Channel[:], want) || login.Audience != (key.ID{7}) || int64(len(raw)) != r.ContentLength {
			failure = fmt.Errorf("%v, %+v, %d of %d bytes", err, login, len(raw), r.ContentLength)
		}
		_ = json.NewEncoder(w).Encode(wire.LoginReply{Token: "t", ExpiresAt: 5})
	})
	c := open(t, cfg)
	for range 3 { // new and kept connections
		got, _, err := c.Login(t.Context(), cred.Key, cred.Team)
		if err != nil || failure != nil || got.Token != "t" || got.Team != cred.Team {
			t.Fatalf("%v, %v", err, failure)
		}
	}
}

func TestCallsGoThroughAProxy(t *testing.T) {
	cfg := server(t, func(http.ResponseWriter, *http.Request) {})
	var connects []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connects = append(connects, r.Method+" "+r.Host)
		up, err := net.Dial("tcp", strings.TrimPrefix(cfg.URL, "https://"))
		if err != nil {
			return
		}
		down, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(up, down); up.Close() }()
		_, _ = io.Copy(down, up)
		down.Close()
	}))
	defer proxy.Close()
	c := open(t, cfg)
	tr := c.http.Transport.(*http.Transport)
	if tr.Proxy == nil {
		t.Fatal("the environment's proxy is not asked")
	}
	tr.Proxy = func(*http.Request) (*url.URL, error) { return url.Parse(proxy.URL) }
	if err := c.Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if len(connects) != 1 || !strings.HasPrefix(connects[0], "CONNECT ") {
		t.Fatalf("the proxy saw %v", connects)
	}
}

// The server is reached as relays are. A variable that names no proxy stops the call:
// who set it does not want one past the proxy.
func TestServerIsReachedThroughTheProxyOfRelays(t *testing.T) {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"} {
		t.Setenv(name, "")
	}
	cfg := Config{URL: "https://rdv.invalid", Pin: key.Hash{1}, Access: key.ID{1}, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("dialled")
	}}
	t.Setenv("ALL_PROXY", "socks5://proxy.invalid:1080")
	c := open(t, cfg)
	via, err := c.http.Transport.(*http.Transport).Proxy(&http.Request{URL: &url.URL{Scheme: "https", Host: "rdv.invalid:443"}})
	if via == nil || via.Host != "proxy.invalid:1080" || err != nil {
		t.Errorf("through %v, %v", via, err)
	}
	t.Setenv("ALL_PROXY", "socks5://user:secretword@:")
	err = open(t, cfg).Health(t.Context())
	if refusal.Of(err) != refusal.Unreachable || !strings.Contains(err.Error(), "ALL_PROXY") || strings.Contains(err.Error(), "secretword") || strings.Contains(err.Error(), "dialled") {
		t.Errorf("%v", err)
	}
}

func TestCredentialsNeverPrint(t *testing.T) {
	cred := credentials(t)
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+verb, cred, &cred)
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "cred", cred)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "cred", cred)
	if raw, err := json.Marshal(cred); err == nil {
		out.Write(raw)
	}
	if strings.Contains(out.String(), "secret") || strings.Contains(out.String(), fmt.Sprintf("%x", "secret")) {
		t.Fatalf("%s", out.String())
	}
}

// control answers the upgrade and then does what talk says.
func control(t testing.TB, talk func(ctx context.Context, ws *websocket.Conn)) Config {
	return server(t, func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{wire.ControlProtocol}})
		if err != nil {
			return
		}
		defer ws.CloseNow()
		ws.SetReadLimit(1 << 20)
		talk(context.Background(), ws)
	})
}

func hello(key.Hash) (wire.Register, error) { return wire.Register{}, nil }

func TestHostileControlServers(t *testing.T) {
	send := func(typ websocket.MessageType, raw string) func(context.Context, *websocket.Conn) {
		return func(ctx context.Context, ws *websocket.Conn) {
			_, _, _ = ws.Read(ctx)
			_ = ws.Write(ctx, typ, []byte(raw))
			_, _, _ = ws.Read(ctx)
		}
	}
	for name, tc := range map[string]struct {
		talk func(context.Context, *websocket.Conn)
		code refusal.Code
	}{
		"text":          {send(websocket.MessageText, `{"type":"registered","id":0,"body":{}}`), refusal.ProtocolError},
		"not JSON":      {send(websocket.MessageBinary, `x`), refusal.ProtocolError},
		"other frame":   {send(websocket.MessageBinary, `{"type":"heartbeat","id":0,"body":{}}`), refusal.ProtocolError},
		"refusal":       {send(websocket.MessageBinary, `{"type":"refuse","id":0,"body":{"code":"stale","detail":"x"}}`), refusal.Stale},
		"empty refusal": {send(websocket.MessageBinary, `{"type":"refuse","id":0,"body":{}}`), refusal.ProtocolError},
		"too long":      {send(websocket.MessageBinary, strings.Repeat("x", wire.MaxNews+64)), refusal.Unreachable},
		"gone":          {func(context.Context, *websocket.Conn) {}, refusal.Unreachable},
	} {
		c, _, err := DialControl(t.Context(), control(t, tc.talk), hello)
		if c != nil || refusal.Of(err) != tc.code {
			t.Errorf("%s: got %v, want %s", name, err, tc.code)
		}
	}
	cfg := server(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(503)
		_ = json.NewEncoder(w).Encode(wire.Problem{Code: refusal.TooMany})
	})
	_, _, err := DialControl(t.Context(), cfg, hello)
	wantCode(t, err, refusal.TooMany)
}

func TestControlCarriesFrames(t *testing.T) {
	cfg := control(t, func(ctx context.Context, ws *websocket.Conn) {
		_, _, _ = ws.Read(ctx)
		_ = ws.Write(ctx, websocket.MessageBinary, []byte(`{"type":"registered","id":0,"body":{"auditSeq":4,"newer":"field"}}`))
		for {
			typ, raw, err := ws.Read(ctx)
			if err != nil || ws.Write(ctx, typ, raw) != nil {
				return
			}
		}
	})
	c, registered, err := DialControl(t.Context(), cfg, hello)
	if err != nil || registered.AuditSeq != 4 {
		t.Fatalf("%+v, %v", registered, err)
	}
	if err := c.Send(t.Context(), wire.Frame{Type: wire.FrameAccept, ID: 9, Body: json.RawMessage(`{"accept":"AA"}`)}); err != nil {
		t.Fatal(err)
	}
	f, err := c.Receive(t.Context())
	if err != nil || f.ID != 9 || string(f.Body) != `{"accept":"AA"}` {
		t.Fatalf("%+v, %v", f, err)
	}
	big := json.RawMessage(`"` + strings.Repeat("x", wire.MaxFrame) + `"`)
	wantCode(t, c.Send(t.Context(), wire.Frame{Type: wire.FrameAccept, Body: big}), refusal.TooLarge)
	done := make(chan error, 1)
	go func() {
		_, err := c.Receive(context.Background())
		done <- err
	}()
	c.Close()
	c.Close()
	wantCode(t, <-done, refusal.Unreachable)
	wantCode(t, c.Send(t.Context(), wire.Frame{Type: wire.FrameAccept}), refusal.Unreachable)
}
