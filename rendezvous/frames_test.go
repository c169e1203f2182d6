package rendezvous

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/agents"
	"github.com/tucdesk/tucdesk/rendezvous/channel"
	"github.com/tucdesk/tucdesk/rendezvous/client"
)

// socket opens a control channel by hand.
func socket(t testing.TB, n *node, header http.Header, protocols ...string) (*websocket.Conn, int) {
	t.Helper()
	conf := client.TLSConfig(n.keys.Pin)
	conf.NextProtos = []string{"http/1.1"}
	tr := &http.Transport{TLSClientConfig: conf, DialContext: n.reach}
	t.Cleanup(tr.CloseIdleConnections)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ws, resp, err := websocket.Dial(ctx, n.cfg.URL+wire.ControlPath, &websocket.DialOptions{HTTPClient: &http.Client{Transport: tr}, HTTPHeader: header, Subprotocols: protocols})
	status := 0
	if resp != nil {
		status = resp.StatusCode
	}
	if err != nil {
		return nil, status
	}
	ws.SetReadLimit(1 << 20)
	t.Cleanup(func() { _ = ws.CloseNow() })
	return ws, status
}

// lastWord reads until the server closes and returns its refusal.
func lastWord(t testing.TB, ws *websocket.Conn) refusal.Code {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var code refusal.Code
	for {
		_, raw, err := ws.Read(ctx)
		if err != nil {
			if ctx.Err() != nil {
				t.Error("the server did not close")
			}
			return code
		}
		var f wire.Frame
		var r wire.Refuse
		if json.Unmarshal(raw, &f) == nil && f.Type == wire.FrameRefuse && json.Unmarshal(f.Body, &r) == nil {
			code = r.Code
		}
	}
}

func TestK3WebSocketHandshake(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	for name, tc := range map[string]struct {
		header    http.Header
		protocols []string
		status    int
	}{
		"foreign origin": {http.Header{"Origin": {"https://evil.example"}}, []string{wire.ControlProtocol}, 403},
		"own origin":     {http.Header{"Origin": {n.cfg.URL}}, []string{wire.ControlProtocol}, 403},
		"null origin":    {http.Header{"Origin": {"null"}}, []string{wire.ControlProtocol}, 403},
		"no protocol":    {nil, nil, 400},
		"other protocol": {nil, []string{"chat"}, 400},
		"two protocols":  {nil, []string{"chat", wire.ControlProtocol}, 400},
	} {
		if ws, status := socket(t, n, tc.header, tc.protocols...); ws != nil || status != tc.status {
			t.Errorf("%s: status %d", name, status)
		}
	}
	got := attack(t, n).send(forged{method: "GET", target: wire.ControlPath, header: http.Header{"Sec-Websocket-Protocol": {wire.ControlProtocol}}})
	if got.status/100 == 2 {
		t.Errorf("plain GET: %d", got.status)
	}
}

func webSocketFrames(t *testing.T) {
	n := startNode(t)
	open := func() *websocket.Conn {
		ws, _ := socket(t, n, nil, wire.ControlProtocol)
		if ws == nil {
			t.Fatal("no channel")
		}
		return ws
	}
	var cases sync.WaitGroup
	defer cases.Wait() // each waits until the server has given up on it
	say := func(name string, typ websocket.MessageType, text string, codes ...refusal.Code) {
		ws := open()
		cases.Go(func() {
			_ = ws.Write(context.Background(), typ, []byte(text))
			if code := lastWord(t, ws); !slices.Contains(codes, code) {
				t.Errorf("%s: %q", name, code)
			}
		})
	}
	say("text", websocket.MessageText, `{"type":"register","id":0,"body":{}}`, refusal.ProtocolError)
	for name, raw := range map[string]string{"not JSON": "x", "no type": "{}", "other first frame": `{"type":"heartbeat","id":0,"body":{}}`,
		"unknown field": `{"type":"register","id":0,"body":{},"team":"x"}`} {
		say(name, websocket.MessageBinary, raw, refusal.ProtocolError)
	}
	say("large", websocket.MessageBinary, strings.Repeat("x", wire.MaxFrame+1), refusal.TooLarge, "") // the library may close first
}

// rawSocket upgrades by hand, so that frames can be malformed.
func rawSocket(t testing.TB, n *node) io.ReadWriter {
	t.Helper()
	conn := raw(t, n)
	_, err := io.WriteString(conn, "GET "+wire.ControlPath+" HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: "+wire.ControlProtocol+"\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 0, 1024)
	for !strings.HasSuffix(string(head), "\r\n\r\n") {
		var b [1]byte
		if _, err := io.ReadFull(conn, b[:]); err != nil {
			t.Fatalf("%v after %q", err, head)
		}
		head = append(head, b[0])
	}
	if !strings.HasPrefix(string(head), "HTTP/1.1 101") {
		t.Fatalf("upgrade: %q", head)
	}
	return conn
}

func brokenFramesEndTheChannel(t *testing.T) {
	n := startNode(t)
	var cases sync.WaitGroup
	frame := func(first, second byte, rest ...byte) []byte { return append([]byte{first, second}, rest...) }
	for name, bytes := range map[string][]byte{
		"unmasked":          frame(0x82, 0x02, '{', '}'),
		"length 2^63":       frame(0x82, 0xff, binary.BigEndian.AppendUint64(nil, 1<<63)...),
		"length 2^62":       frame(0x82, 0xff, append(binary.BigEndian.AppendUint64(nil, 1<<62), 0, 0, 0, 0)...),
		"reserved bits":     frame(0xf2, 0x80, 0, 0, 0, 0),
		"unknown opcode":    frame(0x83, 0x80, 0, 0, 0, 0),
		"continuation":      frame(0x80, 0x80, 0, 0, 0, 0),
		"long ping":         frame(0x89, 0xfe, 0x10, 0x00, 0, 0, 0, 0),
		"endless fragments": endless(),
	} {
		conn := rawSocket(t, n)
		cases.Go(func() {
			if _, err := conn.Write(bytes); err != nil {
				return // closed while we wrote: as it should
			}
			if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") && !strings.Contains(err.Error(), "closed") {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	cases.Wait()
	eventually(t, "channels are gone", func() bool {
		return n.agents.ConnsForTest() == 0
	})
}

// endless is one message in 70,000 fragments of a byte.
func endless() []byte {
	b := []byte{0x02, 0x81, 0, 0, 0, 0, 'x'}
	for range 70_000 {
		b = append(b, 0x00, 0x81, 0, 0, 0, 0, 'x')
	}
	return b
}

func silentChannelIsClosed(t *testing.T) {
	n := startNode(t)
	ws, _ := socket(t, n, nil, wire.ControlProtocol)
	start := time.Now()
	lastWord(t, ws)
	if d := time.Since(start); d > (agents.RegisterWithin+wire.HeartbeatMissing)/2 { // no other limit is below that
		t.Fatalf("closed after %v", d)
	}
}

// An agent that floods its channel is read more slowly, and keeps it: operators
// decide how much an agent has to say, and must not be able to cut it off.
func frameFloodIsSlowedDown(t *testing.T) {
	c := found(t, startNode(t))
	h := c.newHost("web-1")
	h.dial()
	body := must(json.Marshal(wire.Refuse{}))
	const more = 10
	begin := time.Now()
	for range channel.FramesAtOnce + more {
		if err := h.ctl.Send(t.Context(), wire.Frame{Type: wire.FrameRefuse, ID: 77, Body: body}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all were read", func() bool { return c.node.Snapshot()["frames"] >= uint64(channel.FramesAtOnce)+more })
	if d, least := time.Since(begin), time.Duration(float64(more-1)/channel.FramesPerSecond*float64(time.Second)); d < least {
		t.Errorf("read after %v, want %v or more", d, least)
	}
	if c.node.bus.Len() != 1 {
		t.Error("the agent lost its channel")
	}
}
