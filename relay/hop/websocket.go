package hop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

// maxReply is the longest head of an answer to an upgrade, in bytes. Our choice.
const maxReply = 16 << 10

// AcceptWebSocket makes a WebSocket of a request and returns it as a stream of
// bytes: the boundaries of its messages, which must be binary, mean nothing. It
// answers the request itself when it fails. An Origin is refused: only browsers
// send one, and none is a client.
func AcceptWebSocket(w http.ResponseWriter, r *http.Request) (net.Conn, error) {
	if _, ok := r.Header["Origin"]; ok {
		http.Error(w, "not for web pages", http.StatusForbidden)
		return nil, errors.New("relay WebSocket: request of a web page")
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols:    []string{WebSocketProto},
		CompressionMode: websocket.CompressionDisabled, // what it carries is sealed
	})
	if err != nil {
		return nil, err
	}
	if err := speaks(ws); err != nil {
		return nil, err
	}
	return newMessages(ws, local, address(r.RemoteAddr)), nil
}

// address is one that net/http has written as text.
type address string

func (a address) Network() string { return "tcp" }
func (a address) String() string  { return string(a) }

func speaks(ws *websocket.Conn) error {
	if ws.Subprotocol() == WebSocketProto {
		return nil
	}
	_ = ws.CloseNow()
	return errors.New("relay WebSocket: the other side speaks another protocol")
}

// DialWebSocket makes a WebSocket of conn, on which TLS has been established with
// ProtoHTTP, and which it owns from then on. host is "host:port" for the request.
// It uses no other connection: it follows no redirect and knows no proxy. ctx
// bounds the upgrade only.
func DialWebSocket(ctx context.Context, conn net.Conn, host string) (net.Conn, error) {
	ws, err := upgrade(ctx, conn, host)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return newMessages(ws, conn.LocalAddr(), conn.RemoteAddr()), nil
}

func upgrade(ctx context.Context, conn net.Conn, host string) (*websocket.Conn, error) {
	used := false
	transport := &http.Transport{
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			if used {
				return nil, errors.New("one connection only")
			}
			used = true
			return conn, nil
		},
		MaxResponseHeaderBytes: maxReply,
	}
	ws, res, err := websocket.Dial(ctx, "wss://"+host+WebSocketPath, &websocket.DialOptions{
		HTTPClient: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		Subprotocols:    []string{WebSocketProto},
		CompressionMode: websocket.CompressionDisabled,
	})
	switch {
	case err != nil && res != nil && res.StatusCode != http.StatusSwitchingProtocols:
		return nil, fmt.Errorf("the server answers %d %s", res.StatusCode, http.StatusText(res.StatusCode))
	case err != nil:
		return nil, err
	}
	return ws, speaks(ws)
}

// messages is a WebSocket as a stream.
type messages struct {
	net.Conn
	ws            *websocket.Conn
	cancel        context.CancelFunc
	local, remote net.Addr
}

func newMessages(ws *websocket.Conn, local, remote net.Addr) *messages {
	life, cancel := context.WithCancel(context.Background())
	return &messages{websocket.NetConn(life, ws, websocket.MessageBinary), ws, cancel, local, remote}
}

// Write sends b as one binary message.
func (m *messages) Write(b []byte) (int, error) {
	n, err := m.Conn.Write(b)
	return n, ended(err)
}

// Read returns what has arrived of a message.
func (m *messages) Read(b []byte) (int, error) {
	n, err := m.Conn.Read(b)
	return n, ended(err)
}

// ended: the library has several words for the end of a connection.
func ended(err error) error {
	if errors.Is(err, context.Canceled) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
		return net.ErrClosed
	}
	return err
}

// LocalAddr and RemoteAddr are those of the connection below, which the library
// does not show.

func (m *messages) LocalAddr() net.Addr  { return m.local }
func (m *messages) RemoteAddr() net.Addr { return m.remote }

// Close ends the connection without waiting for the peer's word: it may be gone.
func (m *messages) Close() error {
	_ = m.Conn.SetDeadline(time.Time{}) // stops the library's timers
	m.cancel()
	_ = m.ws.CloseNow() // which reports an earlier end, too
	return nil
}
