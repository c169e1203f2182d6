//go:build linux

package agent

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous"
	"github.com/tucdesk/tucdesk/rendezvous/client"
)

// served is a team on a real server with a real relay.
type served struct {
	*team
	cfg  rendezvous.Config
	stop func()
	api  *client.Client
	cred client.Credentials
}

// ownLoopback is an address of this machine on which nobody else listens: a port of it
// that is closed, to be opened again a moment later, is taken by no test beside this one.
func ownLoopback() string {
	n := rand.Uint32()
	return netip.AddrFrom4([4]byte{127, byte(n>>16) | 0x80, byte(n >> 8), byte(n)}).String()
}

func serve(t *testing.T) *served {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "server")
	l := must(net.Listen("tcp", net.JoinHostPort(ownLoopback(), "0")))
	s := &served{team: emptyTeam(t, openPolicy)}
	s.cfg = rendezvous.Config{Name: "main", URL: "https://" + l.Addr().String(), State: dir, Listener: l}
	if err := rendezvous.Create(dir, s.cfg); err != nil {
		t.Fatal(err)
	}
	s.secret = must(s.cfg.OpenRelaySecret())
	s.startRelay()
	s.cfg.Endpoints = []rendezvous.External{{UDP: s.relays[0].UDP}}
	server := s.run()
	info := must(roster.ParseSetup(must(server.SetupString(t.Context()))))
	v1 := s.found(info.Server())
	s.api = must(client.New(client.Config{URL: s.cfg.URL, Pin: info.Keys.TLS, Access: info.Keys.Access.ID()}))
	t.Cleanup(s.api.Close)
	if err := s.api.Setup(t.Context(), wire.SetupRequest{
		Code: info.Code, Setup: must(roster.SignSetup(s.owner, s.state, info, time.Now())), Root: s.state.Root(),
		Roster: []wire.RosterUpdate{v1}, Policy: s.policy,
	}); err != nil {
		t.Fatal(err)
	}
	s.login("ann")
	return s
}

// run starts the server on what the configuration says.
func (s *served) run() *rendezvous.Server {
	s.t.Helper()
	server := must(rendezvous.Open(s.t.Context(), s.cfg))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("server: %v", err)
		}
	})
	s.t.Cleanup(s.stop)
	return server
}

// restart stops the server and starts it on the same address and state.
func (s *served) restart() {
	s.t.Helper()
	s.stop()
	var l net.Listener
	until(s.t, "the address to be free", func() (ok bool) {
		var err error
		l, err = net.Listen("tcp", s.cfg.URL[len("https://"):])
		return err == nil
	})
	s.cfg.Listener = l
	s.run()
	s.login("ann")
}

func (s *served) login(who string) {
	s.t.Helper()
	cred, _, err := s.api.Login(s.t.Context(), s.members[who], s.state.Team())
	if err != nil {
		s.t.Fatal(err)
	}
	s.cred = cred
}

// joinString makes a token that the server knows.
func (s *served) joinString(uses int, tags ...string) string {
	s.t.Helper()
	text, _, _ := s.token(time.Hour, uses, tags...)
	s.login("adm")
	defer s.login("ann")
	if err := s.api.PublishToken(s.t.Context(), s.cred, must(roster.ParseJoin(text)).TokenSigned); err != nil {
		s.t.Fatal(err)
	}
	return text
}

// start opens and runs the agent in dir until the test or stop ends it.
func (s *served) start(dir string) (a *Agent, stop func()) {
	s.t.Helper()
	a = s.open(dir)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("agent: %v", err)
		}
		a.Close()
	})
	s.t.Cleanup(stop)
	until(s.t, "the agent to connect", func() bool { return a.up.get() != nil })
	return a, stop
}

// exec opens a session by way of the server and runs the program.
func (s *served) exec(a *Agent, args ...string) (string, error) {
	s.t.Helper()
	q := s.askFor(a, "ann", argv(args...))
	reply, err := s.api.OpenSession(within(s.t), s.cred, wire.SessionOpen{Request: q.signed, Open: q.offer.Open})
	if err != nil {
		return "", err
	}
	m3, _, keys, err := q.hs.Confirm(reply.Accept, func(id key.ID) (key.Public[key.Agent], error) { return a.cert.Key(id) })
	if err != nil {
		return "", err
	}
	l, err := link.Open(within(s.t), link.Config{Relay: reply.Relay})
	if err != nil {
		return "", err
	}
	conn, err := session.Dial(within(s.t), session.DialConfig{Link: l, M3: m3, Keys: keys})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	ch := must(conn.OpenSession(within(s.t)))
	if err := ch.Exec(within(s.t), q.argv()); err != nil {
		return "", err
	}
	_ = ch.Stdin().Close()
	out := make([]byte, 0, 1024)
	buf := make([]byte, 1024)
	for {
		n, err := ch.Stdout().Read(buf)
		out = append(out, buf[:n]...)
		if err != nil {
			break
		}
	}
	_, err = ch.Wait()
	return string(out), err
}

func TestJoinRunAndExecThroughTheServer(t *testing.T) {
	t.Parallel()
	s := serve(t)
	dir := filepath.Join(t.TempDir(), "agent")
	text := s.joinString(1, "web")
	if err := Join(t.Context(), dir, text, JoinOptions{Name: "web-1", Version: "test"}); err != nil {
		t.Fatal(err)
	}
	a, stopAgent := s.start(dir)
	if out, err := s.exec(a, "echo", "hello"); err != nil || out != "hello\n" {
		t.Fatalf("%q, %v", out, err)
	}
	until(t, "the session to end", func() bool { return a.sessions.count() == 0 })
	until(t, "the log to be delivered", func() bool { return len(must(a.spool.Pending(0, 1))) == 0 })
	until(t, "the status", func() bool {
		st, err := ReadStatus(dir)
		return err == nil && st.Server == s.cfg.URL && st.Name == "web-1" && st.Code == "" && st.RosterVersion == 1
	})

	// A new roster reaches the agent by itself.
	u := s.next(func(r *roster.Roster) { r.Revoke(s.members["eve"].ID()) })
	s.login("adm")
	if err := s.api.PublishRoster(t.Context(), s.cred, wire.RosterPublish{Update: u}); err != nil {
		t.Fatal(err)
	}
	until(t, "the roster to arrive", func() bool {
		now, _ := a.keeper.Get()
		return now.Roster.Version() == 2
	})
	s.restart()
	until(t, "the agent to come back", func() bool {
		out, err := s.exec(a, "echo", "again")
		return err == nil && out == "again\n"
	})
	stopAgent()
	if _, err := ReadStatus(dir); err == nil {
		t.Error("a stopped agent left its status")
	}
}

func TestJoinRefusalsLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	s := serve(t)
	base := t.TempDir()
	once, many := s.joinString(1), s.joinString(9)
	first := filepath.Join(base, "first")
	if err := Join(t.Context(), first, once, JoinOptions{Name: "one"}); err != nil {
		t.Fatal(err)
	}
	before := must(os.ReadFile(filepath.Join(first, "identity")))
	if err := Join(t.Context(), first, once, JoinOptions{Name: "two"}); refusal.Of(err) != refusal.AlreadyJoined {
		t.Errorf("joining twice: %v", err)
	}
	if after := must(os.ReadFile(filepath.Join(first, "identity"))); string(after) != string(before) {
		t.Error("joining twice changed the key")
	}
	short, _, _ := s.token(time.Millisecond, 1)
	stranger, _, _ := newTeam(t, openPolicy).token(time.Hour, 1)
	for name, c := range map[string]struct {
		text, name string
		want       refusal.Code
	}{
		"used up": {once, "other", refusal.TokenUsed}, "name taken": {many, "one", refusal.NameTaken},
		"bad name": {many, "UPPER", refusal.BadName}, "expired": {short, "late", refusal.Expired},
		"no server": {stranger, "lost", refusal.Unreachable}, "cut short": {many[:len(many)-9], "cut", refusal.BadToken},
	} {
		dir := filepath.Join(base, "try")
		err := Join(t.Context(), dir, c.text, JoinOptions{Name: c.name})
		if refusal.Of(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
		if list, err := os.ReadDir(dir); err == nil {
			t.Errorf("%s left %v", name, list)
		}
	}
}

// A full disk keeps an agent from storing a checkpoint. The proof with the next
// one starts at what it was shown, not at what it has: that is no second log, and
// must not freeze the agent and accuse the server.
func TestFullDiskAccusesNobody(t *testing.T) {
	t.Parallel()
	s := serve(t)
	dir := filepath.Join(t.TempDir(), "agent")
	if err := Join(t.Context(), dir, s.joinString(1), JoinOptions{Name: "web"}); err != nil {
		t.Fatal(err)
	}
	a := s.open(dir)
	defer a.Close()
	show := func(from int64) (size int64) {
		t.Helper()
		var g wire.AuditGossip
		s.login("ann") // is an entry, which is in a checkpoint a moment later
		until(t, "a longer log", func() bool {
			var err error
			if g, err = s.api.Checkpoint(t.Context(), s.cred, uint64(from)); refusal.Of(err) == refusal.RateLimited {
				return false
			} else if err != nil {
				t.Fatal(err)
			}
			text, _, _ := strings.Cut(g.Checkpoint, "\n\n")
			size = must(strconv.ParseInt(strings.Split(text, "\n")[1], 10, 64))
			return size > from
		})
		a.gossip.Take(g)
		return size
	}
	a.gossip.Begin(a.member.Server.Access)
	first := show(0)
	if err := os.Rename(dir, dir+"-away"); err != nil {
		t.Fatal(err)
	}
	second := show(first) // cannot be written
	if err := os.Rename(dir+"-away", dir); err != nil {
		t.Fatal(err)
	}
	show(second)
	seen := a.gossip.Begin(a.member.Server.Access) // of the next connection
	if err := a.gossip.Err(); err != nil || seen != first {
		t.Fatalf("size %d, %v", seen, err)
	}
	last := show(first)
	if seen := a.gossip.Begin(a.member.Server.Access); a.gossip.Err() != nil || seen != last {
		t.Errorf("size %d of %d, %v", seen, last, a.gossip.Err())
	}
}
