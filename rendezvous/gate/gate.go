// Package gate is the way of a call into its handler. Everything about a call that
// can be decided before its handler runs is decided here, in this order, and the
// first check that fails answers:
//
//	request target              plain characters, exact match with a route
//	announced body              length, size limit of the route, JSON only
//	rate of the source          calls without a token; and what does not hold
//	JWT                         once, in the Authorization header; package principal
//	rate of the token           calls without a proof, by the source that shows it
//	logout                      the token was not ended, on any node
//	roster                      the key is in it now; its role of now counts, not the token's
//	proof                       protocol 4.2, on every route that changes or exports something
//	rate of the key             one operator cannot take the service from others
//	body                        in time, while there is room; the one that was proven
//	nonce of the proof          not used before
//
// The proof comes before the body, whose hash it holds: whoever has copied a token
// makes the server take no body at all (attack K2).
//
// What a handler does with the call is not known here.
//
// Source: design 6, protocol 4.2, 4.3.
package gate

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/rate"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/metrics"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
	"github.com/tucdesk/tucdesk/rendezvous/problem"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

// Times and places of bodies (attack K1); our choice.
const (
	// StrangerWithin is how long the body of a caller without a token may take.
	StrangerWithin = 5 * time.Second

	// MaxLarge is how many large bodies of callers without a token are read at once,
	// each up to wire.MaxBody.
	MaxLarge = 4

	// MaxProven is how many bytes of proven bodies are held at once, of those above
	// LimitRequest and as many of the others (attack K2).
	MaxProven = 8 * wire.MaxBody

	// MaxProvenEach is how many of them one key holds: two rosters, or some thousand
	// sessions of the usual size.
	MaxProvenEach = 2 * wire.MaxBody

	strangerPace = 256 << 10   // bytes per second that a longer one gets beyond StrangerWithin
	drainWithin  = time.Second // of a body behind a refusal
)

// Gate serves a table of routes. Its fields are set before the first call and not
// changed; all are required. All methods are safe for concurrent use.
type Gate struct {
	Routes   []Route
	Store    *store.Store
	Teams    *team.Teams
	Issuer   *principal.Issuer
	Audience string // what proofs must be made out to
	Metrics  *metrics.Counters
	Log      *slog.Logger

	Sources  *rate.Limiter[netip.Prefix] // calls without a token, by source network
	Larges   *rate.Limiter[netip.Prefix] // large ones of them
	Rates                                // calls with a token
	Refusals *rate.Limiter[key.ID]       // entries in the log about them
	Large    chan struct{}               // MaxLarge places for large bodies of strangers
	Rosters  *rate.Room[key.ID]          // MaxProven bytes for proven bodies above LimitRequest, by operator key
	Bodies   *rate.Room[key.ID]          // the same for all others, so that the large ones leave them room

	// Hold takes a call among those that the server waits for when it closes, or
	// refuses it because it does.
	Hold func() (end func(), err error)
}

// ServeHTTP is the way in. A panic ends one call, not the server, and its stack
// goes to the log alone (attack K15).
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &Call{HTTP: r, W: w, ID: wire.NewNonce().String(), Now: time.Now(), control: http.NewResponseController(w)}
	problem.Guard(w.Header(), c.ID)
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			g.Log.Error("a call panicked", "request", c.ID, "panic", p, "stack", string(debug.Stack()))
			g.Metrics.Count("panic")
			problem.Write(w, c.ID, errors.New("panic"))
		}
	}()
	end, err := g.Hold()
	if err != nil {
		g.refused(c, err)
		return
	}
	defer end()
	reply, err := g.pass(c)
	if err != nil {
		g.refused(c, err)
		return
	}
	g.Metrics.Count("answered")
	if a, ok := reply.(Accepted); ok {
		problem.JSON(w, http.StatusAccepted, a.Reply)
		return
	}
	problem.JSON(w, http.StatusOK, reply)
}

// refused answers with err, counts it and, where a verified caller is known,
// records it.
func (g *Gate) refused(c *Call, err error) {
	if errors.Is(err, ErrAnswered) {
		g.Metrics.Count("answered")
		return
	}
	code := refusal.Of(err)
	ours := code == "" || code == refusal.Unavailable // a refusal stays one, also of a caller who does not wait for it
	if ours && errors.Is(c.HTTP.Context().Err(), context.Canceled) {
		g.Log.Debug("a caller went away", "request", c.ID, "path", c.path()) // there is nobody to answer, and nothing broke
		g.Metrics.Count("gone")
		return
	}
	if code == "" {
		code = refusal.Unavailable
		g.Log.Error("a call met a fault", "request", c.ID, "path", c.path(), "err", err)
	}
	if foreign := (*ByAgent)(nil); errors.As(err, &foreign) {
		g.Metrics.Count("refused_by_agent")
		if ours && c.Session != nil { // the agent's log has it by the session, and the operator is shown the request
			g.Log.Warn("an agent could not open a session", "request", c.ID, "session", c.Session.Request.Session.String(), "agent", c.Session.Request.Agent.ShortCode())
		}
	} else {
		g.Metrics.Count("refused_" + string(code))
	}
	g.record(c, code)
	if c.Body == nil && c.HTTP.ContentLength != 0 { // net/http reads on behind a refusal: not much, and not for long
		if c.HTTP.ContentLength < 0 || c.HTTP.ContentLength > LimitSmall {
			c.W.Header().Set("Connection", "close") // small bodies may be drained: a handshake would cost us more
		}
		_ = c.control.SetReadDeadline(time.Now().Add(drainWithin)) // a connection that has none is gone
	}
	problem.Write(c.W, c.ID, err)
}

// pass takes a call through the checks that the package comment lists.
func (g *Gate) pass(c *Call) (any, error) {
	if err := g.findRoute(c); err != nil {
		return nil, err
	}
	if err := checkAnnounced(c); err != nil {
		return nil, err
	}
	if c.Route.Auth == Anybody {
		if c.Route.Path != wire.PathHealth && !g.Sources.Allow(rate.Source(c.HTTP.RemoteAddr), c.Now) {
			return nil, refusal.New(refusal.RateLimited, "too many calls from this network; wait a moment")
		}
	} else if err := g.authenticate(c); err != nil {
		return nil, err
	}
	release, err := g.takeBody(c)
	if err != nil {
		return nil, err
	}
	defer release()
	if c.Route.Auth == Proof {
		if err := g.spendProof(c); err != nil {
			return nil, err
		}
	}
	return c.Route.Handle(c)
}

// authenticate finds out whose call it is, and on a route that takes a proof whether
// that proves it. Rates says what the call is counted by on the way.
func (g *Gate) authenticate(c *Call) error {
	token, err := bearer(c)
	if err != nil {
		return err
	}
	shown := shownBy(c, token)
	if err := g.before(c, shown); err != nil {
		return err
	}
	who, err := g.Issuer.Verify(token, c.Now)
	if err != nil {
		g.failed(c, shown, err)
		return problem.With(http.StatusUnauthorized, err)
	}
	if err := g.verified(c, shown, who); err != nil {
		return err
	}
	if err = g.admit(c, who); err == nil && c.Route.Auth == Proof {
		err = g.checkProof(c, shown)
	}
	switch {
	case err != nil && c.hasProof():
		g.failed(c, shown, err)
		return err
	case err != nil || !c.hasProof():
		return err
	}
	return g.proven(c)
}

// bearer takes the token from the one place where it may stand. Cookies, queries and
// bodies are not looked at, so no page can make a browser send it.
func bearer(c *Call) (string, error) {
	headers := c.HTTP.Header["Authorization"]
	if len(headers) == 0 {
		return "", refusal.New(refusal.NotLoggedIn, "log in first")
	}
	token, ok := strings.CutPrefix(headers[0], "Bearer ")
	if len(headers) != 1 || !ok {
		return "", problem.With(http.StatusUnauthorized, refusal.New(refusal.BadToken, "want one Authorization header with a bearer token"))
	}
	return token, nil
}

// admit judges the token's holder by the database and the roster of now.
func (g *Gate) admit(c *Call, who principal.Principal) (err error) {
	if c.Team, err = g.Teams.Find(c.HTTP.Context(), who.Team.Wire()); err != nil {
		return err
	}
	if c.State, err = g.Teams.Admit(c.HTTP.Context(), c.Team, who, c.Now); err != nil { // a token outlives its logout by no second (attack C12)
		return err
	}
	op, err := c.State.Roster.Operator(who.Operator, c.Now)
	if err != nil { // nor its operator
		return problem.With(http.StatusUnauthorized, err)
	}
	c.Who, c.Op = who, op
	if !op.Role.AtLeast(c.Route.Role) {
		return refusal.New(refusal.Forbidden, "this takes the role %s; yours is %s", c.Route.Role, op.Role)
	}
	return nil
}
