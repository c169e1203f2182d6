package rendezvous

import (
	"net/http"
	"strings"

	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

// auth is what a route asks of its caller.
type auth int

const (
	authNone  auth = iota // the handler checks by itself, or there is nothing to check
	authToken             // a JWT
	authProof             // a JWT and a proof of this very call
)

// Body limits in bytes; our choice where wire says nothing.
const (
	limitNone     = 0
	limitSmall    = 16 << 10  // a login, a token, an approval that repeats a request
	limitStranger = 64 << 10  // what a caller without a token may send without one of the places for large bodies
	limitRequest  = 160 << 10 // a session request of 64 KiB in base64, and M1
	limitLarge    = wire.MaxBody
)

// route is one row of the table: everything about a call that can be decided
// before its handler runs.
type route struct {
	method, path string
	auth         auth
	role         policy.Role // the least role, where auth is not authNone
	action       string      // what the proof must name
	limit        int         // bytes of body; limitNone takes none
	query        []string    // parameters that may stand in the query, once each
	subject      func(*Server, *call) (subject, error)
	handle       func(*Server, *call) (any, error)
}

// routes is the whole API. The matrix of attack K10 is generated from it.
func routes() []route {
	return []route{
		{method: http.MethodGet, path: wire.PathHealth, handle: (*Server).health},
		{method: http.MethodGet, path: wire.ControlPath, handle: (*Server).control},
		{method: http.MethodPost, path: wire.PathSetup, limit: limitLarge, handle: (*Server).setup},
		{method: http.MethodPost, path: wire.PathLogin, limit: limitSmall, handle: (*Server).login},

		{method: http.MethodGet, path: wire.PathRoster, auth: authToken, role: policy.Viewer,
			query: []string{"from"}, handle: (*Server).rosterNews},
		{method: http.MethodPost, path: wire.PathRoster, auth: authProof, role: policy.Operator,
			action: wire.ActRoster, limit: limitLarge, handle: (*Server).publishRoster},
		{method: http.MethodPost, path: wire.PathOffer, limit: limitLarge, handle: (*Server).offerRoster},

		{method: http.MethodGet, path: wire.PathTokens, auth: authToken, role: policy.Viewer, handle: (*Server).tokens},
		{method: http.MethodPost, path: wire.PathTokens, auth: authProof, role: policy.Operator,
			action: wire.ActToken, limit: limitSmall, handle: (*Server).publishToken},

		{method: http.MethodGet, path: wire.PathAgents, auth: authToken, role: policy.Viewer,
			query: []string{"after"}, handle: (*Server).agents},
		{method: http.MethodDelete, path: wire.PathAgent, auth: authProof, role: policy.Admin,
			action: wire.ActAgent, subject: (*Server).agentSubject, handle: (*Server).deleteAgent},

		{method: http.MethodPost, path: wire.PathSessions, auth: authProof, role: policy.Operator,
			action: wire.ActSession, limit: limitRequest, subject: (*Server).sessionSubject, handle: (*Server).openSession},
		{method: http.MethodPost, path: wire.PathRelay, auth: authProof, role: policy.Operator,
			action: wire.ActRenew, limit: limitSmall, subject: (*Server).relaySubject, handle: (*Server).renewRelay},
		{method: http.MethodGet, path: wire.PathEnd, auth: authToken, role: policy.Operator,
			query: []string{"agent"}, handle: (*Server).sessionEnd},

		{method: http.MethodPost, path: wire.PathRelayCheck, auth: authProof, role: policy.Viewer,
			action: wire.ActCheck, handle: (*Server).checkRelays},

		{method: http.MethodGet, path: wire.PathRequests, auth: authToken, role: policy.Viewer, handle: (*Server).requests},
		{method: http.MethodGet, path: wire.PathRequest, auth: authToken, role: policy.Viewer,
			query: []string{"wait"}, handle: (*Server).request},
		{method: http.MethodPost, path: wire.PathApprovals, auth: authProof, role: policy.Operator,
			action: wire.ActApprove, limit: limitRequest, subject: (*Server).requestSubject, handle: (*Server).approve},
		{method: http.MethodPost, path: wire.PathCancel, auth: authProof, role: policy.Operator,
			action: wire.ActCancel, subject: (*Server).requestSubject, handle: (*Server).cancel},

		{method: http.MethodGet, path: wire.PathAudit, auth: authProof, role: policy.Admin,
			action: wire.ActAudit, handle: (*Server).exportAudit},
		{method: http.MethodGet, path: wire.PathCheckpoint, auth: authToken, role: policy.Viewer,
			query: []string{"from"}, handle: (*Server).checkpoint},
		{method: http.MethodPost, path: wire.PathCheckpoint, auth: authProof, role: policy.Viewer,
			action: wire.ActCosign, limit: limitSmall, handle: (*Server).cosign},
	}
}

// find matches path segment by segment, exactly: no cleaning, no redirects, no
// case folding, no slash at the end (attacks D9, G12). known says that another
// method has the path.
func find(table []route, method, path string) (r *route, vars map[string]string, known bool) {
	for i := range table {
		v, ok := match(table[i].path, path)
		if !ok {
			continue
		}
		known = true
		if table[i].method == method {
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
