package rendezvous

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/rate"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/chain"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
	"github.com/tucdesk/tucdesk/rendezvous/problem"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

// call is one request on its way through the gate to its handler.
type call struct {
	http    *http.Request
	w       http.ResponseWriter      // for answers that are not one JSON value
	control *http.ResponseController // of w
	id      string                   // 32 hex digits, in the log and in every problem
	route   *route
	vars    map[string]string
	query   url.Values
	body    []byte
	now     time.Time

	// Set from authToken on.
	who   principal.Principal
	team  *team.Team
	state chain.State     // the roster and policy that this call is judged by
	op    roster.Operator // the caller's entry in it

	open     *sessionCall // what sessionSubject read, for openSession
	renew    *renewCall   // what relaySubject read, for renewRelay
	recorded bool         // the refusal is in the audit log already
}

// answered is returned by a handler that has written its answer itself.
var errAnswered = errors.New("answered")

// accepted makes the status 202 instead of 200.
type accepted struct{ reply any }

// relayPath is hop.WebSocketPath: the one path that is not ours.
const relayPath = "/relay"

// ServeHTTP is the way in. A panic ends one call, not the server, and its stack
// goes to the log alone (attack K15).
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.cfg.RelayWeb != nil && r.RequestURI == relayPath { // exactly, as every path here
		s.cfg.RelayWeb.ServeHTTP(w, r) // limits and time are the relay's own
		return
	}
	c := &call{http: r, w: w, control: http.NewResponseController(w), id: wire.NewNonce().String(), now: time.Now()}
	problem.Guard(w.Header(), c.id)
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			s.log.Error("a call panicked", "request", c.id, "panic", p, "stack", string(debug.Stack()))
			s.metrics.Count("panic")
			problem.Write(w, c.id, errors.New("panic"))
		}
	}()
	end, err := s.hold()
	if err != nil {
		s.refused(c, err)
		return
	}
	defer end()
	reply, err := s.pass(c)
	if err != nil {
		s.refused(c, err)
		return
	}
	s.metrics.Count("answered")
	if a, ok := reply.(accepted); ok {
		problem.JSON(w, http.StatusAccepted, a.reply)
		return
	}
	problem.JSON(w, http.StatusOK, reply)
}

// refused answers with err, counts it and, where a verified caller is known,
// records it.
func (s *Server) refused(c *call, err error) {
	if errors.Is(err, errAnswered) {
		s.metrics.Count("answered")
		return
	}
	code := refusal.Of(err)
	ours := code == "" || code == refusal.Unavailable // a refusal stays one, also of a caller who does not wait for it
	if ours && errors.Is(c.http.Context().Err(), context.Canceled) {
		s.metrics.Count("gone") // whoever asked has hung up: there is nobody to answer, and nothing broke
		s.log.Debug("a caller went away", "request", c.id, "path", c.path())
		return
	}
	if code == "" {
		code = refusal.Unavailable
		s.log.Error("a call met a fault", "request", c.id, "path", c.path(), "err", err)
	}
	if foreign := (*byAgent)(nil); errors.As(err, &foreign) {
		s.metrics.Count("refused_by_agent")
	} else {
		s.metrics.Count("refused_" + string(code))
	}
	s.recordRefusal(c, code)
	if c.body == nil && c.http.ContentLength != 0 { // net/http reads on behind a refusal: not much, and not for long
		if c.http.ContentLength < 0 || c.http.ContentLength > limitSmall {
			c.w.Header().Set("Connection", "close") // small bodies may be drained: a handshake would cost us more
		}
		_ = c.control.SetReadDeadline(time.Now().Add(drainWithin)) // a connection that has none is gone
	}
	problem.Write(c.w, c.id, err)
}

// path is the route's pattern, which holds nothing of the caller's.
func (c *call) path() string {
	if c.route == nil {
		return ""
	}
	return c.route.path
}

// pass takes a call through the checks that the package comment lists.
func (s *Server) pass(c *call) (any, error) {
	if err := s.findRoute(c); err != nil {
		return nil, err
	}
	if c.route.auth == authNone {
		if c.route.path != wire.PathHealth && !s.sources.Allow(rate.Source(c.http.RemoteAddr), c.now) {
			return nil, refusal.New(refusal.RateLimited, "too many calls from this network; wait a moment")
		}
	} else if err := s.authenticate(c); err != nil {
		return nil, err
	}
	release, err := s.takeBody(c)
	if err != nil {
		return nil, err
	}
	defer release()
	if c.route.auth == authProof {
		if err := s.checkProof(c); err != nil {
			return nil, err
		}
	}
	return c.route.handle(s, c)
}

// findRoute takes only targets that have one reading: no escapes, no empty or
// dotted segments, no parameters behind ";", no absolute form.
func (s *Server) findRoute(c *call) error {
	path, rawQuery, _ := strings.Cut(c.http.RequestURI, "?")
	for _, b := range []byte(path) {
		if (b < 'a' || b > 'z') && (b < 'A' || b > 'Z') && (b < '0' || b > '9') && b != '/' && b != '-' && b != '_' {
			return refusal.New(refusal.BadRequest, "the path has a character that no path here has")
		}
	}
	if !strings.HasPrefix(path, "/") || strings.Contains(path, "//") {
		return refusal.New(refusal.BadRequest, "the path is not a plain one")
	}
	r, vars, known := find(s.routes, c.http.Method, path)
	if r == nil && known {
		return problem.With(http.StatusMethodNotAllowed, refusal.New(refusal.BadRequest, "this path does not take this method"))
	}
	if r == nil {
		return refusal.New(refusal.NotFound, "there is no such path")
	}
	c.route, c.vars = r, vars
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return refusal.New(refusal.BadRequest, "the query cannot be read")
	}
	for name, values := range query {
		if !slices.Contains(r.query, name) || len(values) != 1 {
			return refusal.New(refusal.BadRequest, "the query has a parameter that is unknown here or stands twice")
		}
	}
	c.query = query
	return nil
}

// authenticate takes the token from the one place where it may stand. Cookies,
// queries and bodies are not looked at, so no page can make a browser send it.
func (s *Server) authenticate(c *call) error {
	headers := c.http.Header["Authorization"]
	if len(headers) == 0 {
		return refusal.New(refusal.NotLoggedIn, "log in first")
	}
	token, ok := strings.CutPrefix(headers[0], "Bearer ")
	if len(headers) != 1 || !ok {
		return problem.With(http.StatusUnauthorized, refusal.New(refusal.BadToken, "want one Authorization header with a bearer token"))
	}
	who, err := s.issuer.Verify(token, c.now)
	if err != nil {
		return problem.With(http.StatusUnauthorized, err)
	}
	if !s.operators.Allow(who.Operator, c.now) { // before the database is asked: a flood costs one signature a call (attack B18)
		return refusal.New(refusal.RateLimited, "too many calls with this key; wait a moment")
	}
	if c.team, err = s.teams.Find(c.http.Context(), who.Team.Wire()); err != nil {
		return err
	}
	if c.state, err = s.teams.Refresh(c.http.Context(), c.team); err != nil {
		return err
	}
	op, err := c.state.Roster.Operator(who.Operator, c.now)
	if err != nil { // a token outlives its operator by no second (attack C12)
		return problem.With(http.StatusUnauthorized, err)
	}
	c.who, c.op = who, op
	if !op.Role.AtLeast(c.route.role) {
		return refusal.New(refusal.Forbidden, "this takes the role %s; yours is %s", c.route.role, op.Role)
	}
	return nil
}

// takeBody reads the body into c. A stranger's has to come quickly, and a large
// one, which costs memory before anything is known of its sender, takes one of few
// places until the call is over. Small bodies need no place, so whoever sends large
// ones slowly keeps nobody from setting up a team or offering a roster (attack K1).
func (s *Server) takeBody(c *call) (release func(), err error) {
	release = func() {}
	if c.route.auth == authNone && c.http.ContentLength > limitStranger {
		if !s.larges.Allow(rate.Source(c.http.RemoteAddr), c.now) {
			return nil, refusal.New(refusal.RateLimited, "too many large calls from this network; wait a moment")
		}
		if release, err = s.largePlace(); err != nil {
			return nil, err
		}
	}
	if c.route.auth == authNone && c.http.ContentLength > 0 {
		length := min(c.http.ContentLength, wire.MaxBody)
		err = c.control.SetReadDeadline(c.now.Add(strangerWithin + time.Duration(length)*time.Second/strangerPace))
	}
	if err == nil {
		err = readBody(c)
	}
	if err == nil { // what follows may take as long as its own limit says; net/http would end it with the body's
		err = c.control.SetReadDeadline(time.Time{})
	}
	if err != nil {
		release()
		return nil, err
	}
	return release, nil
}

func (s *Server) largePlace() (release func(), err error) {
	select {
	case s.large <- struct{}{}:
		return func() { <-s.large }, nil
	default:
		return nil, refusal.New(refusal.RateLimited, "other large calls are under way; wait a moment")
	}
}

// readBody takes a body whose length was announced. The chunked form is refused
// altogether, which leaves no two readings of where a body ends (attack D6); so
// are encodings, which unpack to more than was counted.
func readBody(c *call) error {
	r, limit := c.http, int64(c.route.limit)
	if r.ContentLength < 0 || len(r.TransferEncoding) > 0 {
		c.w.Header().Set("Connection", "close")
		return refusal.New(refusal.BadRequest, "send the body's length, and the body in one piece")
	}
	if r.ContentLength > limit {
		return refusal.New(refusal.TooLarge, "a body of at most %d bytes", limit)
	}
	if r.Header.Get("Content-Encoding") != "" {
		return problem.With(http.StatusUnsupportedMediaType, refusal.New(refusal.BadRequest, "bodies are taken as they are, without an encoding"))
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.w, r.Body, limit))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return refusal.New(refusal.TooLarge, "a body of at most %d bytes", limit)
	case err != nil:
		return refusal.New(refusal.BadRequest, "the body broke off")
	case len(body) > 0 && r.Header.Get("Content-Type") != "application/json":
		return problem.With(http.StatusUnsupportedMediaType, refusal.New(refusal.BadRequest, "want Content-Type application/json"))
	}
	c.body = body
	return nil
}

// hashVar reads a key id or hash from the path. One that is not well formed is
// not found, like one that does not exist.
func (c *call) hashVar(name string) (key.ID, error) {
	id, err := key.ParseID(c.vars[name])
	if err != nil {
		return key.ID{}, team.NotFound()
	}
	return id, nil
}
