package rendezvous

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/conf"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
)

// granting is a session that the server granted, as both ends know it.
type granting struct {
	crew    *crew
	host    *host
	person  *person
	request statement.Signed
	reply   wire.SessionReply
	offer   wire.OpenSession
	id      uint64
}

// granted opens a session of the operator on a fresh host, which then is on a
// channel that the test reads.
func (c *crew) granted(name string) *granting {
	c.t.Helper()
	g := &granting{crew: c, host: c.newHost(name), person: c.people[policy.Operator]}
	g.host.dial()
	offers := make(chan wire.OpenSession, 1)
	g.host.serve(func(o wire.OpenSession) (wire.FrameType, any) {
		offers <- o
		return wire.FrameAccept, wire.AcceptSession{Accept: wire.Bytes{1}}
	})
	open := c.request(g.person, g.host, nil)
	g.request, g.reply, g.offer = open.Request, must(c.api.OpenSession(c.t.Context(), g.person.cred, open)), <-offers
	g.host.ctl.Close()
	g.host.dial()
	return g
}

// renew asks as the operator.
func (g *granting) renew() (wire.RelayRenewed, error) {
	return g.crew.api.RenewRelay(g.crew.t.Context(), g.person.cred, g.request, g.reply.Lease.Ticket)
}

// renewAs asks as an agent, on its channel.
func (g *granting) renewAs(h *host, ticket statement.Signed) (wire.RelayRenewed, error) {
	g.crew.t.Helper()
	var renewed wire.RelayRenewed
	var r wire.Refuse
	g.id++
	body := must(strict.Encode(wire.RelayWant{Ticket: ticket}))
	if err := h.ctl.Send(g.crew.t.Context(), wire.Frame{Type: wire.FrameRelay, ID: g.id, Body: body}); err != nil {
		return renewed, err
	}
	for {
		f, err := h.ctl.Receive(g.crew.t.Context())
		switch {
		case err != nil:
			return renewed, err
		case f.ID != g.id:
		case f.Type == wire.FrameRefuse:
			must(0, json.Unmarshal(f.Body, &r))
			return renewed, refusal.New(r.Code, "%s", r.Detail)
		case f.Type == wire.FrameRelayed:
			return renewed, json.Unmarshal(f.Body, &renewed)
		}
	}
}

// follows fails unless next is a credential that goes on where before ends.
func follows(t *testing.T, next wire.RelayRenewed, before wire.Relay, role credential.Role) {
	t.Helper()
	was, is := must(credential.Parse(before.Username)), must(credential.Check(next.Relay.Username, time.Now()))
	if is.Pair != was.Pair || is.Role != role || was.Role != role || is.Expires.Before(was.Expires) ||
		len(next.Relay.Password) != 32 || len(next.Relay.Endpoints) != 1 || next.Lease.Ticket == nil ||
		next.Lease.Lifetime <= 3_590_000 || next.Lease.Lifetime > 3_600_000 {
		t.Errorf("%s became %s, lease of %d ms", before.Username, next.Relay.Username, next.Lease.Lifetime)
	}
}

func bothEndsRenewAlsoAfterARestart(t *testing.T) {
	c := found(t, startNode(t))
	g := c.granted("web-1")
	grant, _, err := statement.OpenSelfSigned(g.offer.Grant, func(wire.Grant, key.ID) (statement.Verifier, error) { return c.node.keys.Grant.Public(), nil })
	if err != nil {
		t.Fatal(err)
	}
	follows(t, must(g.renew()), g.reply.Relay, credential.Operator)
	follows(t, must(g.renewAs(g.host, g.offer.Lease.Ticket)), grant.Relay, credential.Agent)

	there := newAPI(t, c.node.second(t))
	follows(t, must(there.RenewRelay(t.Context(), g.person.cred, g.request, g.reply.Lease.Ticket)), g.reply.Relay, credential.Operator)

	c.node = c.node.restart(t)
	c.api = newAPI(t, c.node)
	g.host.dial()
	follows(t, must(g.renew()), g.reply.Relay, credential.Operator)
	follows(t, must(g.renewAs(g.host, g.offer.Lease.Ticket)), grant.Relay, credential.Agent)
}

// TestM9NobodyElseRenews: who is not the session's own operator or agent learns
// that there is no such thing, whatever they know of it.
func TestM9NobodyElseRenews(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	c, theirs := found(t, n), found(t, n)
	g, o := c.granted("web-1"), theirs.granted("web-1")
	ticket := g.reply.Lease.Ticket

	for name, p := range map[string]*person{"a colleague": c.people[policy.Admin], "another team": theirs.people[policy.Operator]} {
		own := c.request(p, g.host, func(r *wire.Request) { r.Session = sessionOf(g) }).Request
		_, err := c.api.RenewRelay(t.Context(), p.cred, own, ticket)
		wantStatus(t, err, 404)
		if refusal.Of(err) != refusal.NotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := c.api.RenewRelay(t.Context(), g.person.cred, c.request(g.person, g.host, nil).Request, ticket)
	wantCode(t, err, refusal.NotFound) // an unknown session beside a true ticket
	_, err = c.api.RenewRelay(t.Context(), g.person.cred, g.request, o.reply.Lease.Ticket)
	wantCode(t, err, refusal.NotFound)
	_, err = c.api.RenewRelay(t.Context(), g.person.cred, g.request, nil)
	wantCode(t, err, refusal.NotFound)
	_, err = c.api.RenewRelay(t.Context(), g.person.cred, g.request, g.offer.Grant) // signed by the same key for something else
	wantCode(t, err, refusal.NotFound)

	second := c.newHost("web-2")
	second.dial()
	for name, h := range map[string]*host{"a neighbour": second, "another team's": o.host} {
		if _, err := g.renewAs(h, ticket); refusal.Of(err) != refusal.NotFound {
			t.Errorf("%s agent: %v", name, err)
		}
	}
	if _, err := g.renewAs(g.host, nil); refusal.Of(err) != refusal.NotFound {
		t.Errorf("no ticket: %v", err)
	}
	must(g.renewAs(g.host, ticket)) // and the channel has survived all that
}

func sessionOf(g *granting) wire.SessionID {
	req, _, err := statement.OpenSelfSigned(g.request, func(wire.Request, key.ID) (statement.Verifier, error) { return g.person.key.Public(), nil })
	if err != nil {
		panic(err)
	}
	return req.Session
}

func TestG6WhoLostTheirRightRenewsNothing(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	g := c.granted("web-1")
	demote := func(role policy.Role) func(*roster.Roster) {
		return func(r *roster.Roster) {
			for i := range r.Operators {
				if r.Operators[i].Key.ID() == g.person.key.ID() {
					r.Operators[i].Role = role
				}
			}
		}
	}
	c.publish(demote(policy.Viewer))
	_, err := g.renew()
	wantCode(t, err, refusal.Forbidden)
	_, err = g.renewAs(g.host, g.offer.Lease.Ticket)
	wantCode(t, err, refusal.WrongRole)
	c.publish(demote(policy.Operator))
	_, err = g.renew()
	wantCode(t, err, refusal.WrongRole) // the session was cut; the role is back, it is not
	g = c.granted("web-2")
	must(g.renew())
	c.publish(func(r *roster.Roster) { r.Revoke(g.person.key.ID()) })
	_, err = g.renew()
	wantCode(t, err, refusal.KeyRevoked)
	wantStatus(t, err, 401)
	_, err = g.renewAs(g.host, g.offer.Lease.Ticket)
	wantCode(t, err, refusal.KeyRevoked)
	c.publish(func(r *roster.Roster) { r.Revoke(g.host.key.ID()) })
	if _, err := g.renewAs(g.host, g.offer.Lease.Ticket); err == nil {
		t.Error("a revoked agent renewed")
	}
}

func TestExpiredRosterRenewsNothing(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	g := c.granted("web-1")
	tk := must(c.node.leases.OpenTicket(g.reply.Lease.Ticket))
	state := *c.node.teams.Known(c.state.Team()).Have()
	_, err := c.node.leases.Renewal(t.Context(), tk, g.reply.Lease.Ticket, credential.Operator, state, state.Roster.ExpiresAt().Add(time.Second))
	wantCode(t, err, refusal.RosterExpired)
}

// TestNoCredentialOutlivesTheSession: the last one ends with it and cannot be
// renewed; a ticket that was kept buys nothing.
func TestNoCredentialOutlivesTheSession(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	g := c.granted("web-1")
	tk := must(c.node.leases.OpenTicket(g.reply.Lease.Ticket))
	state := *c.node.teams.Known(c.state.Team()).Have()
	now := time.Now()
	tk.EndsAt = wire.At(now.Add(90 * time.Minute))
	for _, at := range []struct {
		after, life time.Duration
		more        bool
	}{{0, time.Hour, true}, {29 * time.Minute, time.Hour, true}, {30 * time.Minute, time.Hour, false}, {89 * time.Minute, time.Minute, false}} {
		r, err := c.node.leases.Renewal(t.Context(), tk, g.reply.Lease.Ticket, credential.Agent, state, now.Add(at.after))
		if err != nil {
			t.Fatal(err)
		}
		left := r.Relay.ExpiresAt.Time().Sub(now.Add(at.after))
		if left > at.life || left < at.life-2*time.Second || (r.Lease.Ticket != nil) != at.more {
			t.Errorf("after %v: lives %v, ticket %v", at.after, left, r.Lease.Ticket != nil)
		}
	}
	_, err := c.node.leases.Renewal(t.Context(), tk, g.reply.Lease.Ticket, credential.Agent, state, now.Add(90*time.Minute))
	wantCode(t, err, refusal.Expired)
}

func TestD1RenewalWantsItsOwnProof(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	g := c.granted("web-1")
	a := attack(t, c.node)
	session := sessionOf(g)
	target := strings.Replace(wire.PathRelay, "{session}", session.String(), 1)
	body := must(strict.Encode(wire.RelayWant{Ticket: g.reply.Lease.Ticket}))
	call := func(edit func(*forged, *wire.Proof)) answer {
		f := forged{method: "POST", target: target, body: body, token: g.person.cred.Token, key: g.person.key,
			proof: c.node.proofFor(g.person.cred, "POST", target, body, wire.ActRenew)}
		f.proof.Session, f.proof.Context.Agent, f.proof.Context.RequestHash = session, g.host.key.ID(), g.request.Hash()
		edit(&f, f.proof)
		return a.send(f)
	}
	if got := call(func(*forged, *wire.Proof) {}); got.status != 200 {
		t.Fatalf("got %d %+v: the rest would prove nothing", got.status, got.problem)
	}
	a.want("no proof", call(func(f *forged, _ *wire.Proof) { f.proof = nil }), 401, refusal.ProofRequired)
	for name, edit := range map[string]func(*wire.Proof){
		"another act":     func(p *wire.Proof) { p.Context.Action = wire.ActSession },
		"another agent":   func(p *wire.Proof) { p.Context.Agent[0] ^= 1 },
		"another request": func(p *wire.Proof) { p.Context.RequestHash[0] ^= 1 },
		"another session": func(p *wire.Proof) { p.Session = wire.NewSessionID() },
	} {
		a.want(name, call(func(_ *forged, p *wire.Proof) { edit(p) }), 401, refusal.ProofMismatch)
	}
	once := wire.NewNonce()
	same := func(_ *forged, p *wire.Proof) { p.ID = once }
	if got := call(same); got.status != 200 {
		t.Fatalf("got %d %+v", got.status, got.problem)
	}
	a.want("again", call(same), 409, refusal.Replay)
}

func TestMalformedRenewalsEndTheChannel(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	g := c.granted("web-1")
	for name, f := range map[string]wire.Frame{
		"no id":  {Type: wire.FrameRelay, Body: must(strict.Encode(wire.RelayWant{Ticket: g.offer.Lease.Ticket}))},
		"a list": {Type: wire.FrameRelay, ID: 1, Body: []byte("[]")},
	} {
		g.host.dial()
		if err := g.host.ctl.Send(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		for err := error(nil); err == nil; {
			if _, err = g.host.ctl.Receive(t.Context()); err != nil && refusal.Of(err) != refusal.ProtocolError && refusal.Of(err) != refusal.BadRequest {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestLifetimeOfCredentialsIsConfigured(t *testing.T) {
	t.Parallel()
	cfg := Config{Name: "rv1", URL: "https://rv.example", State: t.TempDir()}
	if d := cfg.WithDefaults().Relay.lifetime(); d != time.Hour {
		t.Errorf("default %v", d)
	}
	for seconds, ok := range map[int]bool{-1: false, 59: false, 60: true, 3600: true, 3601: false} {
		cfg.Relay.Lifetime = seconds
		if err := cfg.Check(); (err == nil) != ok {
			t.Errorf("%d seconds: %v", seconds, err)
		}
	}
	cfg.Relay.Lifetime = 90
	path := filepath.Join(t.TempDir(), ConfigFile)
	if err := WriteConfig(path, cfg); err != nil {
		t.Fatal(err)
	}
	var again Config
	if err := conf.Decode(cfg.text(), &again, MaxConfig); err != nil || again.WithDefaults().Relay.lifetime() != 90*time.Second {
		t.Errorf("%+v, %v", again, err)
	}
	if err := conf.Decode([]byte("[relay]\nlifetime-for-test = 1"), &again, MaxConfig); err == nil {
		t.Error("the tests' own setting is a key of the file")
	}
}
