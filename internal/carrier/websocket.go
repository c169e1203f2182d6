package carrier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"
	"github.com/tucdesk/tucdesk/relay/hop"
)

// webSocket asks the server behind the pinned key for its relay (protocol 6.5).
func (t Target) webSocket(ctx context.Context) (net.Conn, Leg, error) {
	conn, leg, err := t.secure(ctx, hop.ProtoHTTP)
	if err != nil {
		return nil, leg, err
	}
	ws, err := t.upgrade(ctx, conn)
	if err != nil {
		_ = conn.Close()
		return nil, LegUpgrade, err
	}
	life, cancel := context.WithCancel(context.Background())
	return &messages{Conn: websocket.NetConn(life, ws, websocket.MessageBinary), ws: ws, under: conn, cancel: cancel}, "", nil
}

// upgrade uses conn and no other connection: it follows no redirect and knows no
// second proxy.
func (t Target) upgrade(ctx context.Context, conn net.Conn) (*websocket.Conn, error) {
	dialled := false
	transport := &http.Transport{
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			if dialled {
				return nil, errors.New("one connection only")
			}
			dialled = true
			return conn, nil
		},
		MaxResponseHeaderBytes: maxReply,
	}
	ws, res, err := websocket.Dial(ctx, "wss://"+t.Addr+hop.WebSocketPath, &websocket.DialOptions{
		HTTPClient: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		Subprotocols:    []string{hop.WebSocketProto},
		CompressionMode: websocket.CompressionDisabled, // what it carries is sealed
	})
	switch {
	case err != nil && res != nil && res.StatusCode != http.StatusSwitchingProtocols:
		return nil, fmt.Errorf("the server answers %d %s", res.StatusCode, http.StatusText(res.StatusCode))
	case err != nil:
		return nil, err
	case ws.Subprotocol() != hop.WebSocketProto:
		_ = ws.CloseNow()
		return nil, errors.New("the server speaks another protocol there")
	}
	return ws, nil
}

// messages is a WebSocket as a stream.
type messages struct {
	net.Conn
	ws     *websocket.Conn
	under  net.Conn
	cancel context.CancelFunc
}

// Write sends b in binary messages. Their boundaries mean nothing.
func (m *messages) Write(b []byte) (int, error) {
	n, err := m.Conn.Write(b)
	return n, closed(err)
}

// Read returns what has arrived of a binary message.
func (m *messages) Read(b []byte) (int, error) {
	n, err := m.Conn.Read(b)
	return n, closed(err)
}

// closed: the library has several words for the end of a connection.
func closed(err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return err
	}
	if errors.Is(err, context.Canceled) {
		return net.ErrClosed
	}
	return err
}

// LocalAddr and RemoteAddr are those of the TCP connection, which the library does
// not show.

func (m *messages) LocalAddr() net.Addr  { return m.under.LocalAddr() }
func (m *messages) RemoteAddr() net.Addr { return m.under.RemoteAddr() }

// Close ends the connection without waiting for the peer's word: it may be gone.
func (m *messages) Close() error {
	_ = m.Conn.SetDeadline(time.Time{}) // stops the library's timers
	m.cancel()
	_ = m.ws.CloseNow() // which reports an earlier end, too
	return nil
}
