package hop

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// webServer upgrades every request and sends back what it hears.
func webServer(t *testing.T) (addr string, id *Identity) {
	t.Helper()
	id = newIdentity(t)
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := AcceptWebSocket(w, r)
		if err != nil {
			return
		}
		defer conn.Close()
		if conn.RemoteAddr().String() != r.RemoteAddr || conn.LocalAddr() == nil {
			t.Errorf("from %v to %v", conn.RemoteAddr(), conn.LocalAddr())
		}
		io.Copy(conn, conn)
	}))
	web.TLS = id.ServerTLS(ProtoHTTP)
	web.StartTLS()
	t.Cleanup(web.Close)
	return web.Listener.Addr().String(), id
}

func secured(t *testing.T, addr string, id *Identity) net.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, ClientTLS(id.Pin(), ProtoHTTP))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestWebSocketIsAStream(t *testing.T) {
	addr, id := webServer(t)
	conn, err := DialWebSocket(t.Context(), secured(t, addr, id), addr)
	if err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("0123456789abcdef", 1<<12)
	go io.WriteString(conn, big)
	got := make([]byte, len(big))
	conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != big {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := conn.Read(got); err == nil {
		t.Error("a read outlived its deadline")
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if err := conn.Close(); err != nil {
		t.Errorf("again: %v", err)
	}
}

// raw is the library's client, which offers what a test tells it to.
func rawWebSocket(t *testing.T, opt websocket.DialOptions) (*websocket.Conn, *http.Response) {
	t.Helper()
	addr, id := webServer(t)
	opt.HTTPClient = &http.Client{Transport: &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
		return secured(t, addr, id), nil
	}}}
	ws, res, err := websocket.Dial(t.Context(), "wss://"+addr+WebSocketPath, &opt)
	if err != nil {
		return nil, res
	}
	t.Cleanup(func() { ws.CloseNow() })
	return ws, res
}

func TestWebPagesAreRefused(t *testing.T) {
	for _, origin := range []string{"https://evil.example", "null", ""} {
		ws, res := rawWebSocket(t, websocket.DialOptions{Subprotocols: []string{WebSocketProto}, HTTPHeader: http.Header{"Origin": {origin}}})
		if ws != nil || res == nil || res.StatusCode != http.StatusForbidden {
			t.Errorf("%q: %v", origin, res)
		}
	}
}

func TestOtherSubprotocolsAreRefused(t *testing.T) {
	for _, protos := range [][]string{nil, {"mqtt"}} {
		ws, _ := rawWebSocket(t, websocket.DialOptions{Subprotocols: protos})
		if ws == nil {
			continue
		}
		if _, _, err := ws.Read(t.Context()); err == nil {
			t.Errorf("%v: served", protos)
		}
	}
}

// TestTextMessagesEndTheConnectionAtOnce, also when the client neither answers nor
// hangs up: it must not keep its place.
func TestTextMessagesEndTheConnectionAtOnce(t *testing.T) {
	addr, id := webServer(t)
	raw := secured(t, addr, id)
	defer raw.Close()
	only := func(context.Context, string, string) (net.Conn, error) { return raw, nil }
	ws, _, err := websocket.Dial(t.Context(), "wss://"+addr+WebSocketPath, &websocket.DialOptions{
		Subprotocols: []string{WebSocketProto}, HTTPClient: &http.Client{Transport: &http.Transport{DialTLSContext: only}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	if err := ws.Write(t.Context(), websocket.MessageText, []byte("text")); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	raw.SetReadDeadline(start.Add(patience))
	got, _ := io.ReadAll(raw)                                         // frames as they are: no answer goes out
	if want := []byte{0x88, 2, 0x03, 0xeb}; !bytes.Equal(got, want) { // close, 1003
		t.Errorf("%x, want %x", got, want)
	}
	if took := time.Since(start); took > 5*time.Second { // which the library waits for the other end's farewell
		t.Errorf("closed after %v", took)
	}
}

func TestCompressionIsNotTaken(t *testing.T) {
	ws, res := rawWebSocket(t, websocket.DialOptions{Subprotocols: []string{WebSocketProto}, CompressionMode: websocket.CompressionContextTakeover})
	if ws == nil || res.Header.Get("Sec-WebSocket-Extensions") != "" {
		t.Errorf("%v", res)
	}
}
