package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/sparse"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// sendTimeout bounds one Send; our choice.
const sendTimeout = 10 * time.Second

// Control is an agent's registered control channel. One goroutine receives; any
// number may send.
type Control struct {
	conn      *websocket.Conn
	transport *http.Transport
}

// DialControl connects, asks hello for the registration of this very connection
// and sends it, and returns once the server accepted it. channel is the value
// that the registration must sign (protocol 2.11). A server that refuses gives an
// error with its code.
func DialControl(ctx context.Context, cfg Config, hello func(channel key.Hash) (wire.Register, error)) (*Control, wire.Registered, error) {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	c, channel, err := dialSocket(ctx, cfg)
	if err != nil {
		return nil, wire.Registered{}, err
	}
	registered, err := c.register(ctx, channel, hello)
	if err != nil {
		c.Close()
		return nil, wire.Registered{}, err
	}
	return c, registered, nil
}

func dialSocket(ctx context.Context, cfg Config) (*Control, key.Hash, error) {
	host, err := cfg.host()
	if err != nil {
		return nil, key.Hash{}, err
	}
	transport := cfg.transport() // a WebSocket needs a connection of its own
	conn, resp, err := websocket.Dial(ctx, "https://"+host+wire.ControlPath, &websocket.DialOptions{
		HTTPClient:      &http.Client{Transport: transport, CheckRedirect: noRedirects},
		Subprotocols:    []string{wire.ControlProtocol},
		CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		transport.CloseIdleConnections()
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			return nil, key.Hash{}, readProblem(resp)
		}
		return nil, key.Hash{}, unreachable(ctx, cfg.URL, err)
	}
	conn.SetReadLimit(wire.MaxNews)
	c := &Control{conn: conn, transport: transport}
	channel, err := channelBinding(resp.TLS)
	if err == nil && conn.Subprotocol() != wire.ControlProtocol {
		err = refusal.New(refusal.ProtocolError, "the server does not speak %s", wire.ControlProtocol)
	}
	if err != nil {
		c.Close()
		return nil, key.Hash{}, err
	}
	return c, channel, nil
}

func (c *Control) register(ctx context.Context, channel key.Hash, hello func(key.Hash) (wire.Register, error)) (wire.Registered, error) {
	var registered wire.Registered
	reg, err := hello(channel)
	if err != nil {
		return registered, err
	}
	body, err := encodeBody(reg)
	if err != nil {
		return registered, err
	}
	if err := c.Send(ctx, wire.Frame{Type: wire.FrameRegister, Body: body}); err != nil {
		return registered, err
	}
	f, err := c.Receive(ctx)
	if err != nil {
		return registered, err
	}
	if f.Type != wire.FrameRegistered || json.Unmarshal(f.Body, &registered) != nil {
		return registered, refusal.New(refusal.ProtocolError, "the server's first answer is not a registration")
	}
	return registered, nil
}

// Receive returns the next frame. Silence for wire.HeartbeatMissing, a broken
// frame, or the end of ctx close the channel. A refusal that answers nothing we
// asked (ID 0) is the server's last word and comes back as the error.
func (c *Control) Receive(ctx context.Context) (wire.Frame, error) {
	ctx, cancel := context.WithTimeout(ctx, wire.HeartbeatMissing)
	defer cancel()
	typ, raw, err := c.conn.Read(ctx)
	if err != nil {
		return wire.Frame{}, refusal.New(refusal.Unreachable, "the control channel ended: %s", Harmless(err.Error(), maxDetail))
	}
	var f wire.Frame
	if typ != websocket.MessageBinary || !sparse.Lists(raw, someElements) || json.Unmarshal(raw, &f) != nil || len(raw) > limitOf(f.Type) {
		_ = c.conn.CloseNow()
		return wire.Frame{}, refusal.New(refusal.ProtocolError, "the server sent a frame that cannot be read")
	}
	if f.Type == wire.FrameRefuse && f.ID == 0 {
		_ = c.conn.CloseNow()
		return wire.Frame{}, readRefuse(f.Body)
	}
	return f, nil
}

// limitOf is the size limit of a frame from the server: only those that carry
// rosters may be longer than the rest.
func limitOf(t wire.FrameType) int {
	if t == wire.FrameRegistered || t == wire.FrameRoster {
		return wire.MaxNews
	}
	return wire.MaxFrame
}

func readRefuse(body []byte) error {
	var r wire.Refuse
	if json.Unmarshal(body, &r) != nil || !r.Code.Valid() {
		return refusal.New(refusal.ProtocolError, "the server refused without a reason")
	}
	return &refusal.Error{Code: r.Code, Detail: Harmless(r.Detail, maxDetail)}
}

// Send writes one frame, at most wire.MaxFrame bytes with its envelope.
func (c *Control) Send(ctx context.Context, f wire.Frame) error {
	if len(f.Body) == 0 {
		f.Body = json.RawMessage("null")
	}
	raw, err := encodeBody(f)
	if err != nil {
		return err
	}
	if len(raw) > wire.MaxFrame {
		return refusal.New(refusal.TooLarge, "a %q frame of %d bytes; at most %d", f.Type, len(raw), wire.MaxFrame)
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	if err := c.conn.Write(ctx, websocket.MessageBinary, raw); err != nil {
		return fmt.Errorf("sending a %q frame: %w", f.Type, refusal.New(refusal.Unreachable, "%s", Harmless(err.Error(), maxDetail)))
	}
	return nil
}

// Close ends the channel and unblocks Receive and Send. It may be called again.
func (c *Control) Close() {
	_ = c.conn.CloseNow()
	c.transport.CloseIdleConnections()
}
