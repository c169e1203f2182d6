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

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/agents"
	"github.com/tucdesk/tucdesk/rendezvous/bus"
	"github.com/tucdesk/tucdesk/rendezvous/channel"
	"github.com/tucdesk/tucdesk/rendezvous/client"
)

// tryDial registers with an edited registration and returns why that failed.
func (h *host) tryDial(edit func(*wire.Registration)) error {
	ctl, _, err := client.DialControl(h.crew.t.Context(), h.crew.node.config(), h.hello(edit))
	if ctl != nil {
		ctl.Close()
	}
	return err
}

func TestRegistrationTellsTheAgentWhereItStands(t *testing.T) {
	noLeaks(t)
	c := found(t, startNode(t))
	c.publish(func(r *roster.Roster) { r.MinVersion = "0.1.0" })
	h := c.newHost("web-1")
	c.state = must(roster.Found(c.root, c.root.Hash(), c.state.Chain()[0])) // the agent knows version 1
	reg := h.dial()
	if len(reg.Roster.Updates) != 1 || string(reg.Roster.Policy) != testPolicy || reg.Heartbeat != 20_000 || reg.AuditSeq != 0 {
		t.Fatalf("registered %+v", reg)
	}
	next, err := c.state.Apply(reg.Roster.Updates[0], time.Now())
	if err != nil || next.Version() != 2 {
		t.Fatalf("version %v, %v", next, err)
	}
	c.logged(entry.AgentJoin, "")
	h.ctl.Close()
	h.version = "next"
	h.dial()
	c.logged(entry.AgentConnect, "")
}

func TestB16RegistrationTimeNonceAndChannel(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	c := found(t, n)
	h := c.newHost("web-1")
	wantCode(t, h.tryDial(func(r *wire.Registration) { r.IssuedAt -= 121_000 }), refusal.Stale)
	wantCode(t, h.tryDial(func(r *wire.Registration) { r.IssuedAt += 121_000 }), refusal.Stale)
	wantCode(t, h.tryDial(func(r *wire.Registration) { r.Channel[0] ^= 1 }), refusal.WrongChannel)
	wantCode(t, h.tryDial(func(r *wire.Registration) { r.Server[0] ^= 1 }), refusal.WrongChannel)
	wantCode(t, h.tryDial(func(r *wire.Registration) { r.Certificate[0] ^= 1 }), refusal.UnknownAgent)
	wantCode(t, h.tryDial(func(r *wire.Registration) { r.Team = wire.NewTeamID() }), refusal.NotFound)
	nonce := wire.NewNonce()
	same := func(r *wire.Registration) { r.ID = nonce }
	if err := h.tryDial(same); err != nil {
		t.Fatal(err)
	}
	wantCode(t, h.tryDial(same), refusal.Replay)
	if n.Snapshot()["refused_stale"] != 2 || n.Snapshot()["refused_wrong_channel"] != 2 {
		t.Errorf("counters %v", n.Snapshot())
	}
}

// A man in the middle has the agent's registration for its own connection.
func TestB16RegistrationCannotBeForwarded(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h := c.newHost("web-1")
	var caught wire.Register
	_, _, err := client.DialControl(t.Context(), c.node.config(), func(ch key.Hash) (wire.Register, error) {
		caught, _ = h.hello(nil)(ch)
		return wire.Register{}, io.ErrUnexpectedEOF // the agent's own connection is cut
	})
	if err == nil {
		t.Fatal("registered without saying so")
	}
	_, _, err = client.DialControl(t.Context(), c.node.config(), func(key.Hash) (wire.Register, error) { return caught, nil })
	wantCode(t, err, refusal.WrongChannel)
	if c.node.bus.Len() != 0 {
		t.Error("an agent is attached")
	}
}

func TestB15G11KeyOrNameInUse(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, n *node) {
		c, other := found(t, n), found(t, n)
		h := c.newHost("web-1")
		h.dial()
		again := c.newHost("web-2")
		again.key = h.key
		again.cert = must(roster.SignAgent(c.seed, c.token, roster.AgentCert{Team: c.state.Team(), Agent: h.key.Public(), Name: "web-2", Tags: []string{},
			TokenID: c.token.ID, IssuedAt: wire.At(time.Now())}))
		wantCode(t, again.tryDial(nil), refusal.KeyInUse)
		theirs := other.newHost("web-1")
		theirs.key = h.key
		theirs.cert = must(roster.SignAgent(other.seed, other.token, roster.AgentCert{Team: other.state.Team(), Agent: h.key.Public(), Name: "web-1", Tags: []string{},
			TokenID: other.token.ID, IssuedAt: wire.At(time.Now())}))
		wantCode(t, theirs.tryDial(nil), refusal.KeyInUse)
		wantCode(t, c.newHost("web-1").tryDial(nil), refusal.NameTaken)
	})
}

func TestG10CertificateOutsideItsToken(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h := c.newHost("web-1")
	h.cert = sign(t, c.seed, roster.AgentCert{Team: c.state.Team(), Agent: h.key.Public(), Name: "web-1", Tags: []string{"root"},
		TokenID: c.token.ID, IssuedAt: wire.At(time.Now())})
	wantCode(t, h.tryDial(nil), refusal.WiderThanAllowed)
	h.cert = sign(t, must(key.Generate[key.Token]()), roster.AgentCert{Team: c.state.Team(), Agent: h.key.Public(), Name: "web-1", Tags: []string{},
		TokenID: c.token.ID, IssuedAt: wire.At(time.Now())})
	wantCode(t, h.tryDial(nil), refusal.UnknownKey)
	good := c.newHost("web-2")
	stolen := c.newHost("web-3")
	stolen.cert = good.cert // somebody else's certificate
	wantCode(t, stolen.tryDial(nil), refusal.UnknownAgent)
}

func TestK6NewestConnectionWins(t *testing.T) {
	noLeaks(t)
	c := found(t, startNode(t))
	h := c.newHost("web-1")
	h.dial()
	old := h.ctl
	h.dial()
	_, err := old.Receive(t.Context())
	wantCode(t, err, refusal.KeyInUse)
	h.serve(func(o wire.OpenSession) (wire.FrameType, any) {
		return wire.FrameAccept, wire.AcceptSession{Accept: wire.Bytes{7}}
	})
	reply, err := c.api.OpenSession(t.Context(), c.cred(policy.Operator), c.request(c.people[policy.Operator], h, nil))
	if err != nil || reply.Accept[0] != 7 {
		t.Fatalf("%+v, %v", reply, err)
	}
	c.logged(entry.Alarm, refusal.KeyInUse)
	if c.node.Snapshot()["displaced"] != 1 {
		t.Error("not counted")
	}
}

func TestRevokedAndDeletedAgentsAreCutOff(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h, h2 := c.newHost("web-1"), c.newHost("web-2")
	h.dial()
	h2.dial()
	c.publish(func(r *roster.Roster) { r.Revoke(h.key.ID()) })
	_, err := h.ctl.Receive(t.Context())
	wantCode(t, err, refusal.KeyRevoked)
	wantCode(t, h.tryDial(nil), refusal.KeyRevoked)

	f, err := h2.ctl.Receive(t.Context())
	var news wire.RosterNews
	if err != nil || f.Type != wire.FrameRoster || json.Unmarshal(f.Body, &news) != nil || len(news.Updates) != 1 {
		t.Fatalf("frame %s, %v", f.Type, err)
	}
	if err := c.api.DeleteAgent(t.Context(), c.cred(policy.Admin), h2.key.ID()); err != nil {
		t.Fatal(err)
	}
	_, err = h2.ctl.Receive(t.Context())
	wantCode(t, err, refusal.KeyRevoked)
	wantCode(t, h2.tryDial(nil), refusal.KeyRevoked)
	wantCode(t, c.api.DeleteAgent(t.Context(), c.cred(policy.Admin), h2.key.ID()), refusal.NotFound)
	_, err = c.api.OpenSession(t.Context(), c.cred(policy.Operator), c.request(c.people[policy.Operator], h2, nil))
	wantCode(t, err, refusal.NotFound)
	c.logged(entry.AgentDelete, "")
}

func TestG5AgentCarriesNewsPastAServerThatLacksThem(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h := c.newHost("web-1")
	h.dial()
	u := must(roster.Sign(c.owner, roster.Next(c.state, func(r *roster.Roster) {
		r.MinVersion = "0.2.0"
		r.Renew(time.Now(), roster.DefaultLifetime)
	})))
	body := must(json.Marshal(wire.RosterWant{Version: 2, Ahead: []wire.RosterUpdate{u}}))
	if err := h.ctl.Send(t.Context(), wire.Frame{Type: wire.FrameRoster, Body: body}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server has version 2", func() bool {
		news, err := c.api.Roster(t.Context(), c.cred(policy.Viewer), 1)
		return err == nil && len(news.Updates) == 1 && news.Updates[0].Statement.Hash() == u.Statement.Hash()
	})
	c.logged(entry.RosterPublish, "")
}

func TestAuditEntriesOfAgents(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h := c.newHost("web-1")
	h.dial()
	signed := func(seq uint64, previous key.Hash, edit func(*entry.Entry)) statement.Signed {
		e := entry.Entry{ID: wire.NewNonce(), Type: entry.AgentStart, Time: wire.At(time.Now()), Team: c.state.Team(), Seq: seq, Previous: previous,
			Actor: entry.Actor{Kid: h.key.ID()}}
		if edit != nil {
			edit(&e)
		}
		return sign(t, h.key, e)
	}
	send := func(entries ...statement.Signed) (uint64, error) {
		body := must(json.Marshal(wire.AuditEntries{Entries: entries}))
		if err := h.ctl.Send(t.Context(), wire.Frame{Type: wire.FrameAudit, Body: body}); err != nil {
			return 0, err
		}
		for {
			f, err := h.ctl.Receive(t.Context())
			if err != nil {
				return 0, err
			}
			var ack wire.AuditAck
			if f.Type == wire.FrameAuditAck && json.Unmarshal(f.Body, &ack) == nil {
				return ack.Seq, nil
			}
		}
	}
	e1 := signed(1, key.Hash{}, nil)
	e2 := signed(2, e1.Hash(), nil)
	e3 := signed(3, e2.Hash(), nil)
	for i, tc := range []struct {
		entries []statement.Signed
		want    uint64
	}{{[]statement.Signed{e1}, 1}, {[]statement.Signed{e1, e2}, 2}, {[]statement.Signed{signed(4, e3.Hash(), nil)}, 2}, {[]statement.Signed{e3}, 3}} {
		if seq, err := send(tc.entries...); err != nil || seq != tc.want {
			t.Fatalf("batch %d: acknowledged %d, %v; want %d", i, seq, err, tc.want)
		}
	}
	if c.node.Snapshot()["audit_gap"] != 1 {
		t.Error("gap not counted")
	}
	_, err := send(signed(4, key.Hash{9}, nil))
	wantCode(t, err, refusal.BadChain)
	c.logged(entry.Alarm, refusal.BadChain)
	h.dial()
	// K5: an entry for another team.
	_, err = send(signed(4, e3.Hash(), func(e *entry.Entry) { e.Team = wire.NewTeamID() }))
	wantCode(t, err, refusal.WrongTeam)
	h.dial()
	_, err = send(signed(4, e3.Hash(), func(e *entry.Entry) { e.Type = entry.SessionOpen }))
	wantCode(t, err, refusal.WrongType)
	// K5: another agent's entries.
	h2 := c.newHost("web-2")
	h2.dial()
	own := h.ctl
	h.ctl = h2.ctl
	_, err = send(e1)
	wantCode(t, err, refusal.UnknownKey)
	h.ctl = own
	// The agent lost its chain: recorded as an alarm when it comes back.
	h.dial()
	c.logged(entry.Alarm, refusal.AuditFork)
}

func TestCheckpointsAreConsistent(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	origin := checkpoint.Origin("rv1", c.state.Team())
	first, err := c.api.Checkpoint(t.Context(), c.cred(policy.Viewer), 0)
	if err != nil {
		t.Fatal(err)
	}
	older, _, err := checkpoint.Open(first.Checkpoint, origin, c.node.keys.Audit.Public())
	if err != nil {
		t.Fatal(err)
	}
	c.newHost("web-1").dial()
	next, err := c.api.Checkpoint(t.Context(), c.cred(policy.Viewer), uint64(older.Size))
	if err != nil {
		t.Fatal(err)
	}
	newer, _, err := checkpoint.Open(next.Checkpoint, origin, c.node.keys.Audit.Public())
	if err != nil || newer.Size <= older.Size {
		t.Fatalf("%+v after %+v, %v", newer, older, err)
	}
	if err := tree.CheckConsistency(older.Head, newer.Head, next.Consistency); err != nil {
		t.Fatal(err)
	}
}

// socket opens a control channel by hand.
func socket(t testing.TB, n *node, header http.Header, protocols ...string) (*websocket.Conn, int) {
	t.Helper()
	conf := client.TLSConfig(n.keys.Pin)
	conf.NextProtos = []string{"http/1.1"}
	tr := &http.Transport{TLSClientConfig: conf}
	t.Cleanup(tr.CloseIdleConnections)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
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
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
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
	if d := time.Since(start); d > agents.RegisterWithin+3*time.Second {
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

// News, questions and heartbeats come to a channel as soon as it can be found, and
// an agent takes nothing but the answer to its registration first.
func TestNothingOvertakesTheAnswerToARegistration(t *testing.T) {
	noLeaks(t)
	c := found(t, startNode(t))
	h := c.newHost("web-1")
	h.dial()
	team := c.node.teams.All()[0].ID
	done := make(chan struct{})
	var eager sync.WaitGroup
	defer eager.Wait()
	defer close(done)
	eager.Go(func() {
		var last bus.Conn
		for {
			select {
			case <-done:
				return
			default:
			}
			c.node.bus.Each(team, func(_ key.ID, now bus.Conn) {
				if now != last {
					last = now
					now.Tell(wire.Frame{Type: wire.FrameOpen, ID: 1})
				}
			})
		}
	})
	for range 10 { // each takes the place of the one before, which is recorded meanwhile
		h.dial()
	}
}

func TestServerStopsWithAgentsConnected(t *testing.T) {
	noLeaks(t)
	c := found(t, startNode(t))
	h := c.newHost("web-1")
	h.dial()
	done := make(chan error, 1)
	go func() {
		_, err := h.ctl.Receive(context.Background())
		done <- err
	}()
	c.node.stop()
	if err := <-done; refusal.Of(err) == "" {
		t.Fatalf("got %v", err)
	}
	if err := c.node.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestHeartbeatsAreAnsweredAndNotedNowAndThen(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h := c.newHost("web-1")
	h.dial()
	body := must(json.Marshal(wire.HeartbeatReply{RosterVersion: 1}))
	for range 3 {
		if err := h.ctl.Send(t.Context(), wire.Frame{Type: wire.FrameHeartbeat, Body: body}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "frames were read", func() bool { return c.node.Snapshot()["frames"] >= 3 })
	var held *agents.Conn
	c.node.bus.Each(c.node.teams.Known(c.state.Team()).ID, func(_ key.ID, b bus.Conn) { held = b.(*agents.Conn) })
	later := time.Now().Add(agents.NoteEvery)
	if err := held.NoteForTest(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	list := must(c.api.Agents(t.Context(), c.cred(policy.Viewer), ""))
	if list.Agents[0].LastSeen != wire.At(later) {
		t.Fatalf("last seen %v, want %v", list.Agents[0].LastSeen.Time(), later)
	}
	held.Beat()
	f, err := h.ctl.Receive(t.Context())
	var beat wire.Heartbeat
	if err != nil || f.Type != wire.FrameHeartbeat || json.Unmarshal(f.Body, &beat) != nil || beat.RosterVersion != 1 {
		t.Fatalf("%s %+v, %v", f.Type, beat, err)
	}
}
