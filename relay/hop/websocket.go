package hop

import (
	"bufio"
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
	below := &taken{ResponseWriter: w}
	ws, err := websocket.Accept(below, r, &websocket.AcceptOptions{
		Subprotocols:    []string{WebSocketProto},
		CompressionMode: websocket.CompressionDisabled, // what it carries is sealed
	})
	if err != nil {
		return nil, err
	}
	if err := speaks(ws); err != nil {
		return nil, err
	}
	return newMessages(ws, below.conn, local, address(r.RemoteAddr)), nil
}

// taken keeps the connection that the library takes from net/http and does not
// show.
type taken struct {
	http.ResponseWriter
	conn net.Conn
}

// Hijack implements http.Hijacker.
func (t *taken) Hijack() (conn net.Conn, buffered *bufio.ReadWriter, err error) {
	t.conn, buffered, err = http.NewResponseController(t.ResponseWriter).Hijack()
	return t.conn, buffered, err
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
	return newMessages(ws, conn, conn.LocalAddr(), conn.RemoteAddr()), nil
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

// messages is a WebSocket as a stream. The library has one of its own, which waits
// five seconds for the answer of a peer that has broken the protocol.
type messages struct {
	net.Conn      // the connection below, for deadlines
	ws            *websocket.Conn
	reader        io.Reader // the rest of the message that is being read, or nil
	local, remote net.Addr
}

func newMessages(ws *websocket.Conn, below net.Conn, local, remote net.Addr) *messages {
	ws.SetReadLimit(-1) // messages have no size; frames in them do
	return &messages{Conn: below, ws: ws, local: local, remote: remote}
}

// Write sends b as one binary message.
func (m *messages) Write(b []byte) (int, error) {
	if err := m.ws.Write(context.Background(), websocket.MessageBinary, b); err != nil {
		return 0, ended(err)
	}
	return len(b), nil
}

// Read returns what has arrived of a message.
func (m *messages) Read(b []byte) (int, error) {
	for {
		if err := m.open(); err != nil {
			return 0, err
		}
		n, err := m.reader.Read(b)
		if errors.Is(err, io.EOF) {
			m.reader, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, ended(err)
		}
	}
}

// open waits for the next message, unless one is being read.
func (m *messages) open() error {
	if m.reader != nil {
		return nil
	}
	typ, r, err := m.ws.Reader(context.Background())
	if err != nil {
		return ended(err)
	}
	if typ != websocket.MessageBinary {
		m.reject()
		return errors.New("relay WebSocket: a message that is not binary")
	}
	m.reader = r
	return nil
}

// rejectWithin is how long a peer that broke the protocol may take to receive the
// word for it; our choice.
const rejectWithin = time.Second

// reject says what was wrong and closes the connection at once: whoever breaks the
// protocol must not keep a place by not answering.
func (m *messages) reject() {
	now := time.Now()
	_ = m.Conn.SetWriteDeadline(now.Add(rejectWithin))
	_ = m.Conn.SetReadDeadline(now) // its answer is not waited for
	_ = m.ws.Close(websocket.StatusUnsupportedData, "")
}

// ended: the library has several words for the end of a connection.
func ended(err error) error {
	switch {
	case err == nil:
		return nil
	case websocket.CloseStatus(err) == websocket.StatusNormalClosure, websocket.CloseStatus(err) == websocket.StatusGoingAway:
		return io.EOF
	case errors.Is(err, context.Canceled) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF):
		return net.ErrClosed
	}
	return err
}

// LocalAddr and RemoteAddr are those that net/http names: behind the connection
// below may be another one.

func (m *messages) LocalAddr() net.Addr  { return m.local }
func (m *messages) RemoteAddr() net.Addr { return m.remote }

// Close ends the connection without waiting for the peer's word: it may be gone.
func (m *messages) Close() error {
	_ = m.ws.CloseNow() // which reports an earlier end, too
	return nil
}
