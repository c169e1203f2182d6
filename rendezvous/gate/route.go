package gate

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/rendezvous/problem"
)

// Auth is what a route asks of its caller.
type Auth int

const (
	Anybody Auth = iota // the handler checks by itself, or there is nothing to check
	Token               // a JWT
	Proof               // a JWT and a proof of this very call
)

// Limits of a route's body in bytes; our choice where wire says nothing. 0 takes none.
const (
	LimitSmall    = 16 << 10     // a login, a token, an approval that repeats a request
	LimitStranger = 64 << 10     // what a caller without a token may send without one of the places for large bodies
	LimitRequest  = 160 << 10    // a session request of 64 KiB in base64, and M1
	LimitLarge    = wire.MaxBody // a roster with its policy, or a team with its history
)

// Route is one row of the table: how a call is taken, and by whom.
type Route struct {
	Method, Path string
	Auth         Auth
	Role         policy.Role // the least role, where Auth is not Anybody
	Action       string      // what the proof must name
	Limit        int         // bytes of body
	Query        []string    // parameters that may stand in the query, once each

	// Subject reads what the call is about, so that its proof can be held against it;
	// nil where a proof names nothing.
	Subject func(*Call) (Subject, error)

	// Handle returns the answer, which is written as JSON.
	Handle func(*Call) (any, error)
}

// Subject is what a call is about; the proof must name the same.
type Subject struct {
	Session wire.SessionID
	Agent   key.ID
	Request key.Hash
}

// ErrAnswered is returned by a handler that has written its answer itself.
var ErrAnswered = errors.New("answered")

// Accepted makes the status 202 instead of 200.
type Accepted struct{ Reply any }

// ByAgent is a refusal in an agent's words. It is counted under one name: agents
// must not choose the names of our counters, of which there would be no end.
type ByAgent struct{ Err error }

// Error gives the refusal's text.
func (b *ByAgent) Error() string { return b.Err.Error() }

// Unwrap gives the refusal.
func (b *ByAgent) Unwrap() error { return b.Err }

// findRoute takes only targets that have one reading: no escapes, no empty or
// dotted segments, no parameters behind ";", no absolute form.
func (g *Gate) findRoute(c *Call) error {
	path, rawQuery, _ := strings.Cut(c.HTTP.RequestURI, "?")
	for _, b := range []byte(path) {
		if (b < 'a' || b > 'z') && (b < 'A' || b > 'Z') && (b < '0' || b > '9') && b != '/' && b != '-' && b != '_' {
			return refusal.New(refusal.BadRequest, "the path has a character that no path here has")
		}
	}
	if !strings.HasPrefix(path, "/") || strings.Contains(path, "//") {
		return refusal.New(refusal.BadRequest, "the path is not a plain one")
	}
	r, vars, known := find(g.Routes, c.HTTP.Method, path)
	if r == nil && known {
		return problem.With(http.StatusMethodNotAllowed, refusal.New(refusal.BadRequest, "this path does not take this method"))
	}
	if r == nil {
		return refusal.New(refusal.NotFound, "there is no such path")
	}
	c.Route, c.Vars = r, vars
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return refusal.New(refusal.BadRequest, "the query cannot be read")
	}
	for name, values := range query {
		if !slices.Contains(r.Query, name) || len(values) != 1 {
			return refusal.New(refusal.BadRequest, "the query has a parameter that is unknown here or stands twice")
		}
	}
	c.Query = query
	return nil
}

// find matches path segment by segment, exactly: no cleaning, no redirects, no
// case folding, no slash at the end (attacks D9, G12). known says that another
// method has the path.
func find(table []Route, method, path string) (r *Route, vars map[string]string, known bool) {
	for i := range table {
		v, ok := match(table[i].Path, path)
		if !ok {
			continue
		}
		known = true
		if table[i].Method == method {
			return &table[i], v, true
		}
	}
	return nil, nil, known
}

func match(pattern, path string) (map[string]string, bool) {
	if pattern == path {
		return nil, !strings.Contains(path, "{")
	}
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return nil, false
	}
	var vars map[string]string
	for i, w := range want {
		if strings.HasPrefix(w, "{") && got[i] != "" {
			if vars == nil {
				vars = map[string]string{}
			}
			vars[strings.Trim(w, "{}")] = got[i]
		} else if w != got[i] {
			return nil, false
		}
	}
	return vars, true
}
