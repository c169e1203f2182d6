package channel

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// agent is the other end of a channel that serve handles; what Serve returned comes
// out of ended.
func agent(t *testing.T, serve func(*Conn) error) (ws *websocket.Conn, ended <-chan error) {
	t.Helper()
	done := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := Check(r); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		c, err := Accept(context.Background(), w, r)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		done <- serve(c)
	}))
	t.Cleanup(server.Close)
	ws, _, err := websocket.Dial(t.Context(), server.URL, &websocket.DialOptions{Subprotocols: []string{wire.ControlProtocol}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.CloseNow() })
	return ws, done
}

func hear(t *testing.T, ws *websocket.Conn) wire.Frame {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, raw, err := ws.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func say(t *testing.T, ws *websocket.Conn, f wire.Frame) {
	t.Helper()
	raw, err := strict.Encode(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := ws.Write(t.Context(), websocket.MessageBinary, raw); err != nil {
		t.Fatal(err)
	}
}

func quietly(begin func()) Handler {
	return Handler{Begin: begin, Seen: func() {}, Frame: func(wire.Frame) error { return nil }, Beat: func() {}, Gone: func() {}}
}

// Answers that the server waits for are not counted.
func TestAnswersAreNotCountedAsFlood(t *testing.T) {
	c := &Conn{asked: map[uint64]chan wire.Frame{7: make(chan wire.Frame, 1)}}
	if c.awaited(wire.Frame{Type: wire.FrameAudit, ID: 7}) || c.awaited(wire.Frame{Type: wire.FrameRoster, ID: 7}) {
		t.Error("the number of an open question makes no answer of other frames")
	}
	if !c.awaited(wire.Frame{Type: wire.FrameRefuse, ID: 7}) || c.awaited(wire.Frame{Type: wire.FrameRefuse, ID: 8}) || c.awaited(wire.Frame{Type: wire.FrameAudit}) {
		t.Error("an answer is one whose question is open")
	}
}

func TestAnswersFindTheirQuestions(t *testing.T) {
	answers := make(chan wire.Frame, 2)
	ws, _ := agent(t, func(c *Conn) error {
		asked := make(chan struct{}, 2)
		err := c.Serve(quietly(func() {
			for range 2 {
				go func() {
					f, _ := c.Ask(context.Background(), wire.Frame{Type: wire.FrameOpen, Body: json.RawMessage("{}")})
					answers <- f
					asked <- struct{}{}
				}()
			}
		}))
		<-asked
		<-asked
		return err
	})
	first, second := hear(t, ws), hear(t, ws)
	if first.ID == second.ID || first.ID == 0 || second.ID == 0 {
		t.Fatalf("numbers %d and %d", first.ID, second.ID)
	}
	say(t, ws, wire.Frame{Type: wire.FrameAccept, ID: 99, Body: json.RawMessage("{}")}) // to nothing
	for _, id := range []uint64{second.ID, first.ID} {
		say(t, ws, wire.Frame{Type: wire.FrameAccept, ID: id, Body: json.RawMessage("{}")})
		if got := <-answers; got.ID != id {
			t.Errorf("answer %d, want %d", got.ID, id)
		}
	}
}

// What ends a channel is told to the agent, after the cuts that are queued and
// without the rest.
func TestLastWordsAreCutsAndTheCause(t *testing.T) {
	ws, ended := agent(t, func(c *Conn) error {
		return c.Serve(quietly(func() {
			for range QueueLength / 2 {
				c.Send(wire.FrameRoster, 0, struct{}{})
			}
			c.Send(wire.FrameCut, 0, wire.Cut{Code: refusal.KeyRevoked})
			c.Displace()
		}))
	})
	cut := false
	for {
		f := hear(t, ws)
		cut = cut || f.Type == wire.FrameCut
		if f.Type != wire.FrameRefuse {
			continue
		}
		var last wire.Refuse
		if err := json.Unmarshal(f.Body, &last); err != nil || last.Code != refusal.KeyInUse || !cut {
			t.Errorf("%+v after a cut: %v; %v", last, cut, err)
		}
		break
	}
	ws.CloseNow()
	if err := <-ended; refusal.Of(err) != refusal.KeyInUse {
		t.Errorf("the channel ended with %v", err)
	}
}

// An agent that does not read loses its channel, and nobody waits for it.
func TestAQueueThatIsFullEndsTheChannel(t *testing.T) {
	c := NewForTest(t.Context())
	for range QueueLength {
		c.Tell(wire.Frame{})
	}
	if c.Offer(wire.Frame{}) || c.ctx.Err() != nil {
		t.Fatal("an offer that finds no room changes nothing")
	}
	c.Tell(wire.Frame{})
	if got := refusal.Of(context.Cause(c.ctx)); got != refusal.TooMany {
		t.Errorf("ended with %q", got)
	}
}

func TestK3PagesAreRefused(t *testing.T) {
	for name, edit := range map[string]func(http.Header){
		"origin":            func(h http.Header) { h.Set("Origin", "https://evil.example") },
		"empty origin":      func(h http.Header) { h.Set("Origin", "") },
		"no subprotocol":    func(h http.Header) { h.Del("Sec-WebSocket-Protocol") },
		"two subprotocols":  func(h http.Header) { h.Add("Sec-WebSocket-Protocol", "x") },
		"other subprotocol": func(h http.Header) { h.Set("Sec-WebSocket-Protocol", "mqtt") },
	} {
		r := httptest.NewRequest(http.MethodGet, wire.ControlPath, nil)
		r.Header.Set("Sec-WebSocket-Protocol", wire.ControlProtocol)
		if Check(r) != nil {
			t.Fatal("an agent is refused")
		}
		if edit(r.Header); Check(r) == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
