package rendezvous

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/rate"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/client"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
)

// raw opens a TLS connection that speaks HTTP/1.1 by hand.
func raw(t testing.TB, n *node) *tls.Conn {
	t.Helper()
	conf := client.TLSConfig(n.keys.Pin)
	conf.NextProtos = []string{"http/1.1"}
	conn := must(tls.Dial("tcp", n.Addr().String(), conf))
	t.Cleanup(func() { conn.Close() })
	must(0, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

// talk sends text and returns the status of each answer until the server closes
// the connection, or does not.
func talk(t testing.TB, n *node, text string) (statuses []int, closed bool) {
	t.Helper()
	conn := raw(t, n)
	var sending sync.WaitGroup
	defer sending.Wait()
	defer conn.Close()
	sending.Go(func() { _, _ = io.WriteString(conn, text) }) // an answer may come, and the end, before all was sent
	r := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return statuses, !errors.Is(err, os.ErrDeadlineExceeded)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		statuses = append(statuses, resp.StatusCode)
	}
}

func bodiesAndHeadersAreBounded(t *testing.T) {
	c := found(t, startNode(t))
	a := attack(t, c.node)
	cred := c.cred(policy.Admin)
	var cases sync.WaitGroup
	for name, tc := range map[string]struct {
		head   string
		status int
	}{
		"1 GB":        {"Content-Length: 1073741824\r\nContent-Type: application/json\r\n", 413},
		"gzip bomb":   {"Content-Length: 2\r\nContent-Encoding: gzip\r\nContent-Type: application/json\r\n", 415},
		"endless":     {"Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n", 400},
		"huge header": {"X: " + strings.Repeat("a", 64<<10) + "\r\n", 431},
		"form post":   {"Content-Length: 2\r\nContent-Type: application/x-www-form-urlencoded\r\n", 415},
	} {
		for _, path := range []string{wire.PathLogin, wire.PathTokens} {
			cases.Go(func() {
				statuses, _ := talk(t, c.node, "POST "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer "+cred.Token+"\r\n"+tc.head+"\r\n{}")
				if len(statuses) == 0 || statuses[0] != tc.status {
					t.Errorf("%s to %s: statuses %d, want %d", name, path, statuses, tc.status)
				}
			})
		}
	}
	cases.Wait()
	big := bytes.Repeat([]byte("x"), gate.LimitSmall+1)
	a.want("over the route's limit", a.send(c.tokenCall(func(f *forged, _ *wire.Proof) { f.body = big })), 413, refusal.TooLarge)
	a.want("body where none belongs", a.send(forged{method: "GET", target: wire.PathTokens, token: cred.Token, body: []byte("{}")}), 413, refusal.TooLarge)
	nested := []byte(strings.Repeat("[", 15_000))
	a.want("nesting", a.send(c.tokenCall(func(f *forged, p *wire.Proof) { f.body, p.Body = nested, sha(nested) })), 400, refusal.BadRequest)
	if got := a.send(c.tokenCall(nil)); got.status != 200 {
		t.Errorf("afterwards: %d", got.status)
	}
}

func TestK15ErrorsShowARequestIDOnly(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	c.node.gate.Routes = append([]gate.Route{{Method: "GET", Path: "/boom", Handle: func(*gate.Call) (any, error) { panic("secret stack") }},
		{Method: "GET", Path: "/sql", Handle: func(*gate.Call) (any, error) { return nil, fmt.Errorf("SELECT secret FROM teams") }}}, c.node.gate.Routes...)
	a := attack(t, c.node)
	for _, target := range []string{"/boom", "/sql"} {
		got := a.send(forged{method: "GET", target: target})
		a.want(target, got, 503, refusal.Unavailable)
		for _, word := range []string{"secret", "goroutine", ".go", "SELECT", "panic"} {
			if bytes.Contains(got.body, []byte(word)) {
				t.Errorf("%s shows %q: %s", target, word, got.body)
			}
		}
		if got.problem.RequestID == "" || got.problem.RequestID != got.header.Get("X-Request-Id") {
			t.Errorf("%s: request id %q", target, got.problem.RequestID)
		}
	}
	if c.node.Snapshot()["panic"] != 1 {
		t.Error("the panic was not counted")
	}
}

func TestK18DatabaseAwayFailsClosed(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h := c.newHost("web-1").accepting()
	a := attack(t, c.node)
	if err := c.node.store.Close(); err != nil {
		t.Fatal(err)
	}
	a.want("proof", a.send(c.tokenCall(nil)), 503, refusal.Unavailable)
	a.want("health", a.send(forged{method: "GET", target: wire.PathHealth}), 503, refusal.Unavailable)
	_, err := c.api.OpenSession(t.Context(), c.cred(policy.Operator), c.request(c.people[policy.Operator], h, nil))
	wantCode(t, err, refusal.Unavailable)
	wantStatus(t, err, 503)
	_, _, err = c.api.Login(t.Context(), c.people[policy.Viewer].key, c.state.Team())
	wantCode(t, err, refusal.Unavailable)
}

func TestK9IdentifiersAre128RandomBits(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	seen := map[string]bool{}
	for range 50 {
		id := attack(t, c.node).send(forged{method: "GET", target: wire.PathHealth}).problem.RequestID
		if id == "" {
			id = attack(t, c.node).send(forged{method: "GET", target: "/nothing"}).problem.RequestID
		}
		if len(id) != 32 || seen[id] {
			t.Fatalf("request id %q", id)
		}
		seen[id] = true
	}
	for _, e := range c.entries() {
		if (e.ID == wire.Nonce{}) || seen[e.ID.String()] {
			t.Fatal("log entry without an id of its own")
		}
		seen[e.ID.String()] = true
	}
}

func TestC12RosterOfNowDecides(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	a := attack(t, c.node)
	op, ap := c.people[policy.Operator], c.people[policy.Approver]
	get := func(p *person) answer {
		return a.send(forged{method: "GET", target: wire.PathAgents, token: p.cred.Token})
	}
	if got := get(op); got.status != 200 {
		t.Fatalf("before: %d", got.status)
	}
	c.publish(func(r *roster.Roster) {
		r.Revoke(op.key.ID())
		i := slices.IndexFunc(r.Operators, func(o roster.Operator) bool { return o.Key == ap.key.Public() })
		r.Operators[i].Role = policy.Viewer
	})
	a.want("revoked", get(op), 401, refusal.KeyRevoked)
	h := c.newHost("web-1").accepting()
	_, err := c.api.OpenSession(t.Context(), ap.cred, c.request(ap, h, nil))
	wantCode(t, err, refusal.Forbidden)
	c.logged(entry.SessionDeny, refusal.Forbidden)
	_, _, err = c.api.Login(t.Context(), op.key, c.state.Team())
	wantCode(t, err, refusal.NotLoggedIn)
}

func TestC15LoginTellsStrangersNothing(t *testing.T) {
	t.Parallel()
	const logins = 20
	c := found(t, startNodeWith(t, nil, func(s *Server) {
		s.gate.Sources = rate.New[netip.Prefix](rate.Rate{Burst: logins}) // it must not fill up while a slow machine tries
	}))
	stranger := must(key.Generate[key.Operator]())
	_, _, unknownKey := c.api.Login(t.Context(), stranger, c.state.Team())
	_, _, unknownTeam := c.api.Login(t.Context(), stranger, wire.NewTeamID())
	wantCode(t, unknownKey, refusal.NotLoggedIn)
	wantCode(t, unknownTeam, refusal.NotLoggedIn)
	strip := func(err error) string { s, _, _ := strings.Cut(err.Error(), " (request"); return s }
	if strip(unknownKey) != strip(unknownTeam) {
		t.Fatalf("%v and %v differ", unknownKey, unknownTeam)
	}
	limited := false
	for range logins {
		_, _, err := c.api.Login(t.Context(), stranger, c.state.Team())
		limited = limited || refusal.Of(err) == refusal.RateLimited
	}
	if !limited {
		t.Fatal("nobody counted")
	}
}

func TestLoginIsBoundToItsConnection(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	a := attack(t, c.node)
	op := c.people[policy.Operator]
	login := func(edit func(*wire.Login)) answer {
		l := wire.Login{ID: wire.NewNonce(), IssuedAt: wire.At(time.Now()), Team: c.state.Team(), Audience: c.node.keys.Access.ID(), Channel: key.Hash{1}}
		edit(&l)
		return a.send(forged{method: "POST", target: wire.PathLogin, body: must(strict.Encode(wire.LoginRequest{Login: sign(t, op.key, l)}))})
	}
	a.want("channel", login(func(*wire.Login) {}), 401, refusal.WrongChannel)
	a.want("audience", login(func(l *wire.Login) { l.Audience = key.ID{} }), 401, refusal.WrongChannel)
	a.want("time", login(func(l *wire.Login) { l.IssuedAt -= 62_000 }), 401, refusal.ProofTimeSkew)
	a.want("team", login(func(l *wire.Login) { l.Team = wire.NewTeamID() }), 401, refusal.NotLoggedIn)
	c.logged(entry.LoginRefuse, refusal.WrongChannel)
}

func TestPinnedKeyOnly(t *testing.T) {
	t.Parallel()
	n, other := startNode(t), startNode(t)
	cfg := n.config()
	cfg.Pin = other.keys.Pin
	api := must(client.New(cfg))
	defer api.Close()
	wantCode(t, api.Health(t.Context()), refusal.PinMismatch)
	_, _, err := client.DialControl(t.Context(), cfg, nil)
	wantCode(t, err, refusal.PinMismatch)
	conf := client.TLSConfig(n.keys.Pin)
	conf.MinVersion, conf.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if conn, err := tls.Dial("tcp", n.Addr().String(), conf); err == nil {
		conn.Close()
		t.Fatal("TLS 1.2 was spoken")
	}
}

func TestRosterPublishRefusals(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	next := func(edit func(*roster.Roster)) wire.RosterPublish {
		return wire.RosterPublish{Update: must(roster.Sign(c.owner, roster.Next(c.state, func(r *roster.Roster) {
			edit(r)
			r.Renew(time.Now(), roster.DefaultLifetime)
		})))}
	}
	put := func(p wire.RosterPublish) error { return c.api.PublishRoster(t.Context(), c.cred(policy.Admin), p) }
	one, two := next(func(*roster.Roster) {}), next(func(r *roster.Roster) { r.MinVersion = "9.9.9" })
	other := next(func(r *roster.Roster) { r.PolicyHash[0] ^= 1 })
	wantCode(t, put(other), refusal.BadRequest)
	other.Policy = wire.Bytes(testPolicy)
	wantCode(t, put(other), refusal.PolicyMismatch)
	wantCode(t, put(next(func(r *roster.Roster) { r.Servers[0].Name = "renamed" })), refusal.BadName)
	forgedOwner := must(key.Generate[key.Owner]())
	wantCode(t, put(wire.RosterPublish{Update: wire.RosterUpdate{Statement: sign(t, forgedOwner, roster.Next(c.state, func(r *roster.Roster) { r.Renew(time.Now(), time.Hour) })),
		Cosignatures: nil}}), refusal.NotEnoughSignatures)
	if err := put(one); err != nil {
		t.Fatal(err)
	}
	if err := put(one); err != nil {
		t.Fatalf("the same again: %v", err)
	}
	wantCode(t, put(two), refusal.Fork)
	c.state = must(c.state.Apply(one.Update, time.Now()))
	wantCode(t, put(wire.RosterPublish{Update: c.state.Chain()[0]}), refusal.Rollback)
	c.logged(entry.RosterPublish, "")
	news, err := c.api.Roster(t.Context(), c.cred(policy.Viewer), 0)
	if err != nil || len(news.Updates) != 2 || string(news.Policy) != testPolicy || news.Root.Hash() != c.state.Fingerprint() {
		t.Fatalf("news %d updates, %v", len(news.Updates), err)
	}
}

func TestK13CursorsAreChecked(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	a := attack(t, c.node)
	token := c.cred(policy.Viewer).Token
	for _, target := range []string{wire.PathRoster + "?from=-1", wire.PathRoster + "?from=01", wire.PathRoster + "?from=1e3", wire.PathRoster + "?from=99999999999999999999",
		wire.PathCheckpoint + "?from=x", wire.PathAgents + "?after=" + strings.Repeat("a", 64), wire.PathAgents + "?after=A%27", wire.PathAgents + "?after=%00"} {
		a.want(target, a.send(forged{method: "GET", target: target, token: token}), 400, refusal.BadCursor)
	}
}

func TestAgentsArePaged(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	c.newHost("b-host").dial()
	c.newHost("a-host").dial()
	list, err := c.api.Agents(t.Context(), c.cred(policy.Viewer), "")
	if err != nil || len(list.Agents) != 2 || list.Next != "" || !list.Agents[0].Online {
		t.Fatalf("%+v, %v", list, err)
	}
	first, err := c.state.VerifyAgent(list.Agents[0].Token, list.Agents[0].Certificate, time.Now())
	if err != nil || first.Name != "a-host" {
		t.Fatalf("%+v, %v", first, err)
	}
	rest, err := c.api.Agents(t.Context(), c.cred(policy.Viewer), "a-host")
	if err != nil || len(rest.Agents) != 1 {
		t.Fatalf("%+v, %v", rest, err)
	}
}
