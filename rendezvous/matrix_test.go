package rendezvous

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
)

// matrix says for every route how to call it about somebody's thing. A route
// without a row fails TestK10EveryRouteHasARow, so nobody adds one unlooked at.
//
//	body   makes the call's body for a thing
//	named  the thing is named in the path or body: another team's is not found
var matrix = map[string]struct {
	open  bool // no token is asked for
	named func(w *idor, id key.ID) (target string, body []byte, edit func(*wire.Proof))
}{
	"GET " + wire.PathHealth:      {open: true},
	"GET " + wire.ControlPath:     {open: true},
	"POST " + wire.PathSetup:      {open: true},
	"POST " + wire.PathLogin:      {open: true},
	"POST " + wire.PathLogout:     {},
	"GET " + wire.PathRoster:      {},
	"POST " + wire.PathRoster:     {},
	"POST " + wire.PathOffer:      {open: true},
	"GET " + wire.PathTokens:      {},
	"POST " + wire.PathTokens:     {},
	"GET " + wire.PathAgents:      {},
	"GET " + wire.PathRequests:    {},
	"GET " + wire.PathCheckpoint:  {},
	"GET " + wire.PathAudit:       {},
	"POST " + wire.PathCheckpoint: {},
	"DELETE " + wire.PathAgent:    {named: (*idor).agentRow},
	"POST " + wire.PathSessions:   {named: (*idor).sessionRow},
	"POST " + wire.PathRelay:      {named: (*idor).relayRow},
	"POST " + wire.PathRelayCheck: {},
	"GET " + wire.PathEnd:         {named: (*idor).endRow}, // and TestK10EndOfASessionIsToldItsOperatorAlone
	"GET " + wire.PathRequest:     {named: (*idor).requestRow},
	"POST " + wire.PathApprovals:  {named: (*idor).approvalRow},
	"POST " + wire.PathCancel:     {named: (*idor).requestRow},
}

// idor is two teams on one server; mine tries to reach what is theirs.
type idor struct {
	mine, theirs *crew
	role         policy.Role
	ownHost      *host
	theirHost    *host
	ownRequest   key.Hash
	theirRequest key.Hash
}

func newIDOR(t testing.TB, n *node) *idor {
	t.Helper()
	w := &idor{mine: found(t, n), theirs: found(t, n)}
	w.ownHost, w.ownRequest = w.waiting(w.mine, "mine")
	w.theirHost, w.theirRequest = w.waiting(w.theirs, "theirs")
	return w
}

// waiting makes a host and a request that waits for approval.
func (w *idor) waiting(c *crew, name string) (*host, key.Hash) {
	h := c.newHost(name, "prod").accepting()
	open := gated(c, h)
	must(c.api.OpenSession(c.t.Context(), c.cred(policy.Operator), open))
	return h, open.Request.Hash()
}

func (w *idor) agentRow(id key.ID) (string, []byte, func(*wire.Proof)) {
	return strings.Replace(wire.PathAgent, "{agent}", id.String(), 1), nil, func(p *wire.Proof) { p.Context.Agent = id }
}

func (w *idor) sessionRow(id key.ID) (string, []byte, func(*wire.Proof)) {
	p := w.mine.people[w.role]
	open := w.mine.request(p, w.ownHost, func(r *wire.Request) { r.Agent = id })
	req, _, _ := statement.Open[wire.Request](open.Request, w.mine.state.FindOperator(time.Now()))
	return wire.PathSessions, must(strict.Encode(open)), func(p *wire.Proof) {
		p.Session, p.Context.Agent, p.Context.RequestHash = req.Session, id, open.Request.Hash()
	}
}

// relayRow shows a true ticket of their operator for their host, for any other id
// one that nobody has signed.
func (w *idor) relayRow(id key.ID) (string, []byte, func(*wire.Proof)) {
	ticket := wire.RelayTicket{Team: w.theirs.state.Team(), Session: wire.NewSessionID(), Operator: w.theirs.people[policy.Operator].key.ID(), Agent: id}
	signed := must(w.mine.node.leases.SignTicket(ticket))
	if id != w.theirHost.key.ID() {
		signed = sign(w.mine.t, must(key.Generate[key.Grant]()), ticket)
	}
	return strings.Replace(wire.PathRelay, "{session}", ticket.Session.String(), 1), must(strict.Encode(wire.RelayWant{Ticket: signed})),
		func(p *wire.Proof) { p.Session, p.Context.Agent = ticket.Session, id }
}

func (w *idor) endRow(id key.ID) (string, []byte, func(*wire.Proof)) {
	return strings.Replace(wire.PathEnd, "{session}", wire.NewSessionID().String(), 1) + "?agent=" + id.String(), nil, nil
}

func (w *idor) requestRow(id key.ID) (string, []byte, func(*wire.Proof)) {
	return "/v1/requests/" + id.String(), nil, func(p *wire.Proof) { p.Context.RequestHash = id }
}

func (w *idor) approvalRow(id key.ID) (string, []byte, func(*wire.Proof)) {
	now := wire.At(time.Now())
	p := w.mine.people[w.role]
	a := sign(w.mine.t, p.key, approval.Approval{ID: wire.NewNonce(), Team: w.mine.state.Team(), RequestHash: id, Params: wire.Params{Argv: []wire.Bytes{}, Env: []wire.EnvVar{}},
		Decision: approval.Deny, IssuedAt: now, ExpiresAt: now + 60_000})
	return "", must(strict.Encode(wire.ApprovalPublish{Approval: a})), func(p *wire.Proof) { p.Context.RequestHash = id }
}

// call makes the row's call for a thing, as mine's person of role.
func (w *idor) call(a *attacker, r gate.Route, id key.ID) answer {
	cred := w.mine.cred(w.role)
	target, body, edit := matrix[r.Method+" "+r.Path].named(w, id)
	if strings.Contains(r.Path, "{request}") {
		target = strings.Replace(r.Path, "{request}", id.String(), 1)
	}
	f := forged{method: r.Method, target: target, body: body, token: cred.Token, key: cred.Key}
	if r.Auth == gate.Proof {
		f.proof = a.node.proofFor(cred, r.Method, target, body, r.Action)
		edit(f.proof)
	}
	return a.send(f)
}

func TestK10EveryRouteHasARow(t *testing.T) {
	t.Parallel()
	have := map[string]bool{}
	for _, r := range new(Server).routes() {
		name := r.Method + " " + r.Path
		row, ok := matrix[name]
		have[name] = true
		if !ok {
			t.Errorf("route %s has no row in the matrix", name)
		}
		if (r.Auth == gate.Anybody) != row.open {
			t.Errorf("route %s: open %v, the matrix says %v", name, r.Auth == gate.Anybody, row.open)
		}
		if strings.Contains(r.Path, "{") && row.named == nil {
			t.Errorf("route %s names a thing, the matrix does not say how", name)
		}
		if r.Auth != gate.Anybody && !r.Role.Valid() {
			t.Errorf("route %s asks for no role", name)
		}
		if r.Auth == gate.Proof && r.Action == "" {
			t.Errorf("route %s has a proof without an action", name)
		}
		if r.Method != http.MethodGet && r.Auth != gate.Proof && !row.open {
			t.Errorf("route %s changes something without a proof", name)
		}
	}
	for name := range matrix {
		if !have[name] {
			t.Errorf("row %s has no route", name)
		}
	}
}

// The same answer for another team's thing and for one that does not exist, for
// every role; and whoever has no right to the act learns only that.
func TestK10OtherTeamsThingsDoNotExist(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, n *node) {
		w := newIDOR(t, n)
		a := attack(t, w.mine.node)
		for _, r := range new(Server).routes() {
			row := matrix[r.Method+" "+r.Path]
			if row.named == nil {
				continue
			}
			theirs := w.theirHost.key.ID()
			if strings.Contains(r.Path, "{request}") {
				theirs = w.theirRequest
			}
			for _, w.role = range allRoles {
				name := r.Method + " " + r.Path + " as " + w.role.String()
				other, random := w.call(a, r, theirs), w.call(a, r, key.ID(sha([]byte("nothing"))))
				if other.status != random.status || other.problem.Code != random.problem.Code || other.problem.Detail != random.problem.Detail {
					t.Errorf("%s: other team's %d %q %q, random %d %q %q", name, other.status, other.problem.Code, other.problem.Detail,
						random.status, random.problem.Code, random.problem.Detail)
				}
				if w.role.AtLeast(r.Role) {
					a.want(name, other, 404, refusal.NotFound)
				} else {
					a.want(name, other, 403, refusal.Forbidden)
				}
			}
		}
		// Nothing of theirs changed.
		info := must(w.theirs.api.Request(t.Context(), w.theirs.cred(policy.Viewer), w.theirRequest, 0))
		if info.State != wire.RequestPending || len(info.Approvals) != 0 || !w.mine.node.bus.Online(w.mine.node.teams.Known(w.theirs.state.Team()).ID, w.theirHost.key.ID()) {
			t.Fatalf("their request is %q", info.State)
		}
	})
}

// Every list with my token shows mine and never theirs.
func TestC8ListsShowOnesOwnTeam(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, n *node) {
		w := newIDOR(t, n)
		a := attack(t, w.mine.node)
		marks := map[string][]byte{
			"host":    []byte(base64Of(w.theirHost.key.Public().String())),
			"team":    []byte(w.theirs.state.Team().String()),
			"request": []byte(w.theirRequest.String()),
			"agent":   []byte(w.theirHost.key.ID().String()),
		}
		for _, r := range new(Server).routes() {
			if r.Method != http.MethodGet || r.Auth == gate.Anybody || strings.Contains(r.Path, "{") {
				continue
			}
			for _, role := range allRoles {
				if !role.AtLeast(r.Role) {
					continue
				}
				cred := w.mine.cred(role)
				f := forged{method: "GET", target: r.Path, token: cred.Token, key: cred.Key}
				if r.Auth == gate.Proof {
					f.proof = a.node.proofFor(cred, "GET", r.Path, nil, r.Action)
				}
				got := a.send(f)
				if got.status != 200 {
					t.Errorf("%s as %s: %d %s", r.Path, role, got.status, got.problem.Code)
				}
				for what, mark := range marks {
					if bytes.Contains(got.body, mark) {
						t.Errorf("%s shows their %s", r.Path, what)
					}
				}
			}
		}
	})
}

func base64Of(s string) string { b, _ := json.Marshal(s); return strings.Trim(string(b), `"`) }

// Each protected route without a token, with a broken one, and with less than its
// role.
func TestK10NoTokenNoAnswer(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, n *node) {
		w := newIDOR(t, n)
		a := attack(t, w.mine.node)
		for _, r := range new(Server).routes() {
			if r.Auth == gate.Anybody {
				continue
			}
			target := strings.NewReplacer("{agent}", w.ownHost.key.ID().String(), "{request}", w.ownRequest.String(), "{session}", wire.NewSessionID().String()).Replace(r.Path)
			a.want(r.Path, a.send(forged{method: r.Method, target: target}), 401, refusal.NotLoggedIn)
			for _, role := range allRoles {
				if !role.AtLeast(r.Role) {
					a.want(r.Path+" as "+role.String(), a.send(forged{method: r.Method, target: target, token: w.mine.cred(role).Token}), 403, refusal.Forbidden)
				}
			}
		}
	})
}
