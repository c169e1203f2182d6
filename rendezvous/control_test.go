package rendezvous

import (
	"context"
	"encoding/json"
	"io"
	"sync"
	"testing"
	"time"

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
