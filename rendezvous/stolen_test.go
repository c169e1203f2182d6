package rendezvous

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/rate"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/rendezvous/client"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
)

// upload begins to send a roster of that many bytes and leaves the last one out.
func (c *crew) upload(cred client.Credentials, length int, proof string) net.Conn {
	c.t.Helper()
	conn := raw(c.t, c.node)
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", wire.PathRoster, cred.Token, length)
	if proof != "" {
		head += wire.ProofHeader + ": " + proof + "\r\n"
	}
	must(io.WriteString(conn, head+"\r\n"))
	go func() { _, _ = conn.Write(bytes.Repeat([]byte(" "), length-1)) }() // ends with conn
	return conn
}

// statusOf is what the server answers, whatever it was not sent.
func statusOf(t testing.TB, conn net.Conn) int {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// large is a body that publishes the roster in force once more, as long as one may be.
func (c *crew) large() []byte {
	body := must(strict.Encode(wire.RosterPublish{Update: c.state.Chain()[c.state.Version()-1]}))
	return append(body, bytes.Repeat([]byte(" "), gate.LimitLarge-len(body))...)
}

// proves signs what upload and publishLarge send.
func (c *crew) proves(p *person, body []byte) string {
	c.t.Helper()
	return base64.RawURLEncoding.EncodeToString(must(statement.Sign(p.key, *c.node.proofFor(p.cred, "POST", wire.PathRoster, body, wire.ActRoster))))
}

func (c *crew) publishLarge(p *person) answer {
	c.t.Helper()
	body := c.large()
	return attack(c.t, c.node).send(forged{method: "POST", target: wire.PathRoster, body: body, token: p.cred.Token,
		header: http.Header{wire.ProofHeader: {c.proves(p, body)}}})
}

// TestK2StolenTokenTakesNoMemory: whoever has copied a token, and announces as much as a
// route takes, is answered before any of it was read; an owner's roster is published
// beside it.
func TestK2StolenTokenTakesNoMemory(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	cred := c.cred(policy.Operator)
	stranger := &person{key: must(key.Generate[key.Operator]()), cred: cred}
	for name, proof := range map[string]string{"no proof": "", "nonsense": "x", "another key's": c.proves(stranger, nil)} {
		for range 5 {
			if status := statusOf(t, c.upload(cred, gate.LimitLarge, proof)); status != http.StatusUnauthorized {
				t.Errorf("%s: %d", name, status)
			}
		}
	}
	if n := c.node.gate.Rosters.Taken() + c.node.gate.Bodies.Taken(); n != 0 {
		t.Errorf("%d bytes are held", n)
	}
	if got := c.publishLarge(c.people[policy.Admin]); got.status != 200 {
		t.Errorf("an owner beside it: %d %+v", got.status, got.problem)
	}
}

// TestK2MembersFillTheirOwnRoomOnly: also with a key nobody takes more than two rosters'
// worth of memory, however many calls are begun and not ended; whoever else publishes one
// or opens a session meanwhile does.
func TestK2MembersFillTheirOwnRoomOnly(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	h := c.newHost("web-1").accepting()
	bad := c.people[policy.Operator]
	room := c.node.gate.Rosters
	var held []net.Conn
	for range gate.MaxProvenEach / gate.LimitLarge {
		before := room.Taken()
		held = append(held, c.upload(bad.cred, gate.LimitLarge, c.proves(bad, nil)))
		eventually(t, "it is let in", func() bool { return room.Taken() == before+gate.LimitLarge })
	}
	for range 5 {
		if status := statusOf(t, c.upload(bad.cred, gate.LimitLarge, c.proves(bad, nil))); status != http.StatusTooManyRequests {
			t.Errorf("one more: %d", status)
		}
	}
	if room.Taken() != gate.MaxProvenEach {
		t.Errorf("%d bytes are held", room.Taken())
	}
	if got := c.publishLarge(c.people[policy.Admin]); got.status != 200 {
		t.Errorf("an owner beside it: %d %+v", got.status, got.problem)
	}
	for _, p := range []*person{bad, c.people[policy.Approver]} {
		if _, err := c.api.OpenSession(t.Context(), p.cred, c.request(p, h, nil)); err != nil {
			t.Errorf("a session beside it: %v", err)
		}
	}
	for _, conn := range held {
		conn.Close()
	}
	eventually(t, "the room is free again", func() bool { return room.Taken() == 0 })
}

// elsewhere makes a call from another network than the tests'.
func (c *crew) elsewhere(method, path, token, proof string) int {
	r := httptest.NewRequest(method, path, http.NoBody) // from 192.0.2.1
	r.RequestURI = path
	r.Header.Set("Authorization", "Bearer "+token)
	if proof != "" {
		r.Header.Set(wire.ProofHeader, proof)
	}
	w := httptest.NewRecorder()
	c.node.ServeHTTP(w, r)
	return w.Code
}

// counted gives a server rates that do not fill up while a slow machine tries.
func counted(operators, reads, readers, failures float64) func(*Server) {
	return func(s *Server) {
		s.gate.Rates = gate.Rates{
			Failures: rate.New[netip.Prefix](rate.Rate{Burst: failures}), Tokens: rate.New[gate.Shown](rate.Rate{Burst: reads}),
			Readers: rate.New[gate.Reader](rate.Rate{Burst: readers}), Operators: rate.New[key.ID](rate.Rate{Burst: operators}),
			Logouts: rate.New[key.ID](rate.Rate{Burst: 2}),
		}
	}
}

// TestC12StolenTokenKeepsItsOwnerFromNothing: a thief who reads without end, here or
// elsewhere, before and after the logout. The owner opens sessions, logs in, reads with
// the new login, and ends the old one.
func TestC12StolenTokenKeepsItsOwnerFromNothing(t *testing.T) {
	t.Parallel()
	const proven, reads = 6, 10
	c := found(t, startNodeWith(t, nil, counted(proven, reads, 6*reads, 1000)))
	h, op := c.newHost("web-1").accepting(), c.people[policy.Operator]
	stolen := op.cred
	a := attack(t, c.node)
	read := func(token string) int {
		return a.send(forged{method: "GET", target: wire.PathAgents, token: token}).status
	}
	flood := func(call func() int) {
		t.Helper()
		for i := 0; call() != http.StatusTooManyRequests; i++ {
			if i > 5*reads {
				t.Fatal("the thief is not limited")
			}
		}
	}
	flood(func() int { return c.elsewhere("GET", wire.PathAgents, stolen.Token, "") })
	if status := read(op.cred.Token); status != 200 {
		t.Errorf("the owner's list beside a thief elsewhere: %d", status)
	}
	flood(func() int { return read(stolen.Token) })
	flood(func() int { return c.elsewhere("POST", wire.PathSessions, stolen.Token, "") })
	if _, err := c.api.OpenSession(t.Context(), op.cred, c.request(op, h, nil)); err != nil {
		t.Errorf("a session: %v", err)
	}
	enter := func() client.Credentials {
		t.Helper()
		cred, _, err := c.api.Login(t.Context(), op.key, c.state.Team())
		if err != nil {
			t.Fatalf("login: %v", err)
		}
		return cred
	}
	if status := read(enter().Token); status != 200 {
		t.Errorf("a list with the new login: %d", status)
	}
	if err := c.api.Logout(t.Context(), stolen); err != nil {
		t.Fatalf("logout: %v", err)
	}
	flood(func() int { return read(stolen.Token) })
	if status := c.elsewhere("GET", wire.PathRoster, stolen.Token, ""); status == 200 {
		t.Error("the token outlived its logout")
	}
	for range proven - 2 { // all that the owner had is left
		if status := read(enter().Token); status != 200 {
			t.Errorf("a list after the logout: %d", status)
		}
	}
	_, _, err := c.api.Login(t.Context(), op.key, c.state.Team())
	wantCode(t, err, refusal.RateLimited) // and that was counted
}

// TestC12LogoutIsNotKeptOutByTheRestOfTheKey: a key that has used up its calls ends its
// login, and only so often.
func TestC12LogoutIsNotKeptOutByTheRestOfTheKey(t *testing.T) {
	t.Parallel()
	c := found(t, startNodeWith(t, nil, counted(3, 100, 100, 100)))
	op := c.people[policy.Operator]
	for c.node.gate.Operators.Allow(op.key.ID(), time.Now()) {
	}
	_, err := c.api.CheckRelays(t.Context(), op.cred)
	wantCode(t, err, refusal.RateLimited)
	if err := c.api.Logout(t.Context(), op.cred); err != nil {
		t.Fatal(err)
	}
	wantCode(t, c.api.Logout(t.Context(), op.cred), refusal.NotLoggedIn)
	c.node.gate.Logouts.Allow(op.key.ID(), time.Now())
	wantCode(t, c.api.Logout(t.Context(), op.cred), refusal.RateLimited)
}

// TestB18ForgedProofsCostTheirSourceOnly: each makes the server check signatures, so a
// network has only so many; the key that they name, and other networks, do not notice.
func TestB18ForgedProofsCostTheirSourceOnly(t *testing.T) {
	t.Parallel()
	const failures = 20
	c := found(t, startNodeWith(t, nil, counted(5, 100, 100, failures)))
	h, op := c.newHost("web-1").accepting(), c.people[policy.Operator]
	stranger := must(key.Generate[key.Operator]())
	forge := base64.RawURLEncoding.EncodeToString(must(statement.Sign(stranger, *c.node.proofFor(op.cred, "POST", wire.PathLogout, nil, wire.ActLogout))))
	for i := range 2 * failures {
		token, want := op.cred.Token, http.StatusUnauthorized
		if i%2 == 1 {
			token = flipMiddle(token) // nor does a token that we never made fill a table
		}
		if i >= failures {
			want = http.StatusTooManyRequests
		}
		if got := c.elsewhere("POST", wire.PathLogout, token, forge); got != want {
			t.Fatalf("forgery %d: %d, want %d", i, got, want)
		}
	}
	for range 3 {
		if _, err := c.api.OpenSession(t.Context(), op.cred, c.request(op, h, nil)); err != nil {
			t.Errorf("the owner: %v", err)
		}
	}
	if err := c.api.Logout(t.Context(), op.cred); err != nil {
		t.Errorf("logout: %v", err)
	}
}

// TestB18MoreLoginsGiveNoMoreReads, beyond some: a key could otherwise take the service
// from others by logging in again and again.
func TestB18MoreLoginsGiveNoMoreReads(t *testing.T) {
	t.Parallel()
	c := found(t, startNodeWith(t, nil, counted(5, 10, 25, 100)))
	passed := 0
	for i := range 5 {
		token := c.earlier(c.people[policy.Operator], time.Duration(i)*time.Minute)
		for range 10 {
			if c.elsewhere("GET", wire.PathAgents, token, "") == 200 {
				passed++
			}
		}
	}
	if passed != 25 {
		t.Errorf("%d reads, want 25", passed)
	}
	if status := c.elsewhere("GET", wire.PathAgents, c.cred(policy.Viewer).Token, ""); status != 200 {
		t.Errorf("somebody else: %d", status)
	}
}

// TestB18LoginsOfOthersDoNotChargeTheKey: statements that were made for another server or
// connection, or are old, are in other hands than their key's.
func TestB18LoginsOfOthersDoNotChargeTheKey(t *testing.T) {
	t.Parallel()
	c := found(t, startNodeWith(t, nil, counted(1, 100, 100, 100)))
	a, op := attack(t, c.node), c.people[policy.Operator]
	for name, edit := range map[string]func(*wire.Login){
		"channel":  func(*wire.Login) {},
		"audience": func(l *wire.Login) { l.Audience = key.ID{} },
		"time":     func(l *wire.Login) { l.IssuedAt -= 62_000 },
	} {
		l := wire.Login{ID: wire.NewNonce(), IssuedAt: wire.At(time.Now()), Team: c.state.Team(), Audience: c.node.keys.Access.ID(), Channel: key.Hash{1}}
		edit(&l)
		body := must(strict.Encode(wire.LoginRequest{Login: sign(t, op.key, l)}))
		for range 2 {
			if got := a.send(forged{method: "POST", target: wire.PathLogin, body: body}); got.status != http.StatusUnauthorized {
				t.Errorf("%s: %d %s", name, got.status, got.problem.Code)
			}
		}
	}
	if _, _, err := c.api.Login(t.Context(), op.key, c.state.Team()); err != nil {
		t.Error(err)
	}
}
