package rendezvous

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/rendezvous/client"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
)

// attacker makes calls by hand.
type attacker struct {
	t    testing.TB
	node *node
	http *http.Client
}

func attack(t testing.TB, n *node) *attacker {
	t.Helper()
	conf := client.TLSConfig(n.keys.Pin)
	tr := &http.Transport{TLSClientConfig: conf, DialContext: n.reach}
	t.Cleanup(tr.CloseIdleConnections)
	return &attacker{t: t, node: n, http: &http.Client{Transport: tr, Timeout: patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// forged is one call; the zero value of a field leaves that out.
type forged struct {
	method, target string
	body           []byte
	token          string
	proof          *wire.Proof
	key            key.Private[key.Operator]
	header         http.Header
}

// answer is what came back.
type answer struct {
	status  int
	problem wire.Problem
	header  http.Header
	body    []byte
}

func (a *attacker) send(f forged) answer {
	a.t.Helper()
	req, err := http.NewRequest(f.method, a.node.cfg.URL+"/", bytes.NewReader(f.body))
	if err != nil {
		a.t.Fatal(err)
	}
	path, query, _ := strings.Cut(f.target, "?")
	req.URL = &url.URL{Scheme: "https", Host: req.URL.Host, Opaque: path, RawQuery: query, ForceQuery: strings.HasSuffix(f.target, "?")} // as written, nothing cleaned
	for k, v := range f.header {
		req.Header[k] = v
	}
	if f.token != "" {
		req.Header.Set("Authorization", "Bearer "+f.token)
	}
	if f.proof != nil {
		signed, err := statement.Sign(f.key, *f.proof)
		if err != nil {
			a.t.Fatal(err)
		}
		req.Header.Set(wire.ProofHeader, base64.RawURLEncoding.EncodeToString(signed))
	}
	if len(f.body) > 0 && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := a.http.Do(req)
	if err != nil {
		a.t.Fatalf("%s %s: %v", f.method, f.target, err)
	}
	defer resp.Body.Close()
	out := answer{status: resp.StatusCode, header: resp.Header}
	if out.body, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20)); err != nil {
		a.t.Fatal(err)
	}
	_ = json.Unmarshal(out.body, &out.problem)
	return out
}

// want fails unless the answer is this refusal.
func (a *attacker) want(name string, got answer, status int, code refusal.Code) {
	a.t.Helper()
	if got.status != status || got.problem.Code != code {
		a.t.Errorf("%s: got %d %s, want %d %s", name, got.status, got.problem.Code, status, code)
	}
}

// proofFor is the right proof for a call by cred.
func (n *node) proofFor(cred client.Credentials, method, target string, body []byte, action string) *wire.Proof {
	return &wire.Proof{ID: wire.NewNonce(), IssuedAt: wire.At(time.Now()), Audience: n.audience, Method: method, Target: target,
		Body: sha256.Sum256(body), Token: sha256.Sum256([]byte(cred.Token)),
		Context: wire.ProofContext{Action: action, Team: cred.Team}}
}

// tokenBody publishes the crew's own token again, which is allowed and harmless.
func (c *crew) tokenBody() []byte { return must(json.Marshal(wire.TokenPublish{Token: c.signed})) }

func (c *crew) tokenCall(edit func(*forged, *wire.Proof)) forged {
	cred := c.cred(policy.Admin)
	body := c.tokenBody()
	f := forged{method: "POST", target: wire.PathTokens, body: body, token: cred.Token, key: cred.Key,
		proof: c.node.proofFor(cred, "POST", wire.PathTokens, body, wire.ActToken)}
	if edit != nil {
		edit(&f, f.proof)
	}
	return f
}

func TestHonestForgeryPasses(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	if got := attack(t, c.node).send(c.tokenCall(nil)); got.status != 200 {
		t.Fatalf("got %d %+v: the tests below would prove nothing", got.status, got.problem)
	}
}

func TestD1ProofMissingOrWrong(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	a := attack(t, c.node)
	stranger := must(key.Generate[key.Operator]())
	a.want("none", a.send(c.tokenCall(func(f *forged, _ *wire.Proof) { f.proof = nil })), 401, refusal.ProofRequired)
	a.want("wrong key", a.send(c.tokenCall(func(f *forged, _ *wire.Proof) { f.key = stranger })), 401, refusal.ProofInvalid)
	a.want("key of a colleague", a.send(c.tokenCall(func(f *forged, _ *wire.Proof) { f.key = c.people[policy.Operator].key })), 401, refusal.ProofInvalid)
	for name, text := range map[string]string{
		"malformed": "!!!", "empty": "", "not a statement": "e30", "long": strings.Repeat("A", gate.MaxProof+1),
		"another statement": base64.RawURLEncoding.EncodeToString(c.signed),
	} {
		f := c.tokenCall(func(f *forged, _ *wire.Proof) { f.proof = nil })
		f.header = http.Header{wire.ProofHeader: {text}}
		a.want(name, a.send(f), 401, refusal.ProofInvalid)
	}
	f := c.tokenCall(nil)
	signed := base64.RawURLEncoding.EncodeToString(must(statement.Sign(f.key, *f.proof)))
	f.proof, f.header = nil, http.Header{wire.ProofHeader: {signed, signed}}
	a.want("twice in headers", a.send(f), 401, refusal.ProofInvalid)
	if c.node.Snapshot()["refused_proof_invalid"] == 0 {
		t.Error("not counted")
	}
	c.logged("alarm", refusal.ProofInvalid)
}

func TestD1EveryByteOfAProofCounts(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	a := attack(t, c.node)
	f := c.tokenCall(nil)
	signed := must(statement.Sign(f.key, *f.proof))
	f.proof = nil
	for i := 0; i < len(signed); i += 17 { // a sample: each is one call over TLS
		bad := bytes.Clone(signed)
		bad[i] ^= 0x01
		f.header = http.Header{wire.ProofHeader: {base64.RawURLEncoding.EncodeToString(bad)}}
		got := a.send(f)
		if got.status == 200 {
			t.Fatalf("byte %d flipped and accepted", i)
		}
		if got.status == 429 { // our own limit; the rest of the bytes are package statement's tests
			return
		}
	}
}

func TestD2ProofUsedTwice(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, n *node) {
		c := found(t, n)
		a := attack(t, c.node)
		f := c.tokenCall(nil)
		if got := a.send(f); got.status != 200 {
			t.Fatalf("first: %d", got.status)
		}
		a.want("second", a.send(f), 409, refusal.Replay)

		f = c.tokenCall(nil)
		results := make(chan int, 8)
		for range cap(results) {
			go func() { results <- a.send(f).status }()
		}
		passed := 0
		for range cap(results) {
			if <-results == 200 {
				passed++
			}
		}
		if passed != 1 {
			t.Fatalf("%d of %d concurrent uses passed", passed, cap(results))
		}
	})
}

func TestD3D4ProofForAnotherCall(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	a := attack(t, c.node)
	otherToken := c.cred(policy.Operator).Token
	for name, edit := range map[string]func(*forged, *wire.Proof){
		"body":            func(f *forged, _ *wire.Proof) { f.body = append(f.body, ' ') },
		"method":          func(_ *forged, p *wire.Proof) { p.Method = "PUT" },
		"method case":     func(_ *forged, p *wire.Proof) { p.Method = "post" },
		"path":            func(_ *forged, p *wire.Proof) { p.Target = wire.PathRoster },
		"added query":     func(_ *forged, p *wire.Proof) { p.Target += "?x=1" },
		"empty query":     func(f *forged, _ *wire.Proof) { f.target += "?" },
		"path encoding":   func(_ *forged, p *wire.Proof) { p.Target = "/v1/%74okens" },
		"token":           func(_ *forged, p *wire.Proof) { p.Token = sha256.Sum256([]byte(otherToken)) },
		"audience":        func(_ *forged, p *wire.Proof) { p.Audience += "0" },
		"audience host":   func(_ *forged, p *wire.Proof) { p.Audience = c.node.keys.Access.ID().String() + "@localhost:443" },
		"audience server": func(_ *forged, p *wire.Proof) { p.Audience = key.ID{}.String() + p.Audience[64:] },
		"action":          func(_ *forged, p *wire.Proof) { p.Context.Action = wire.ActRoster },
		"team":            func(_ *forged, p *wire.Proof) { p.Context.Team = wire.NewTeamID() },
		"agent":           func(_ *forged, p *wire.Proof) { p.Context.Agent = key.ID{1} },
		"request":         func(_ *forged, p *wire.Proof) { p.Context.RequestHash = key.Hash{1} },
		"session":         func(_ *forged, p *wire.Proof) { p.Session = wire.NewSessionID() },
	} {
		a.want(name, a.send(c.tokenCall(edit)), 401, refusal.ProofMismatch)
	}
}

func TestD4ProofForAnotherSessionOrAgent(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	a := attack(t, c.node)
	h, h2 := c.newHost("web-1").accepting(), c.newHost("web-2").accepting()
	op := c.people[policy.Operator]
	call := func(edit func(*wire.Proof)) answer {
		open := c.request(op, h, nil)
		req, _, _ := statement.Open[wire.Request](open.Request, c.state.FindOperator(time.Now()))
		body := must(strict.Encode(open))
		p := c.node.proofFor(op.cred, "POST", wire.PathSessions, body, wire.ActSession)
		p.Session, p.Context.Agent, p.Context.RequestHash = req.Session, req.Agent, open.Request.Hash()
		edit(p)
		return a.send(forged{method: "POST", target: wire.PathSessions, body: body, token: op.cred.Token, key: op.key, proof: p})
	}
	if got := call(func(*wire.Proof) {}); got.status != 200 {
		t.Fatalf("honest: %d %+v", got.status, got.problem)
	}
	a.want("session", call(func(p *wire.Proof) { p.Session = wire.NewSessionID() }), 401, refusal.ProofMismatch)
	a.want("agent", call(func(p *wire.Proof) { p.Context.Agent = h2.key.ID() }), 401, refusal.ProofMismatch)
	a.want("request", call(func(p *wire.Proof) { p.Context.RequestHash[0] ^= 1 }), 401, refusal.ProofMismatch)
}

func TestD5ProofTime(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	a := attack(t, c.node)
	for _, ms := range []wire.Millis{-62_000, 62_000} {
		got := a.send(c.tokenCall(func(_ *forged, p *wire.Proof) { p.IssuedAt += ms }))
		a.want("skew", got, 401, refusal.ProofTimeSkew)
		if d := time.Since(got.problem.ServerTime.Time()); d < -time.Minute || d > time.Minute {
			t.Errorf("server time %v", got.problem.ServerTime.Time())
		}
	}
	a.want("float", a.send(c.tokenCall(func(f *forged, p *wire.Proof) {
		f.header, f.proof = http.Header{wire.ProofHeader: {floatProof(t, f.key, *p)}}, nil
	})), 401, refusal.ProofInvalid)
}

// floatProof signs p with its time written as a float.
func floatProof(t testing.TB, k key.Private[key.Operator], p wire.Proof) string {
	t.Helper()
	text := must(strict.Encode(p))
	text = bytes.Replace(text, must(json.Marshal(p.IssuedAt)), append(must(json.Marshal(p.IssuedAt)), ".0"...), 1)
	signed := must(statement.Sign(k, rawProof(text)))
	return base64.RawURLEncoding.EncodeToString(signed)
}

// rawProof is a proof in an encoding of the attacker's choice.
type rawProof []byte

func (rawProof) Kind() statement.Kind           { return wire.Proof{}.Kind() }
func (r rawProof) MarshalJSON() ([]byte, error) { return r, nil }

func TestD8ProofStaysUsedAfterRestart(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, n *node) {
		c := found(t, n)
		f := c.tokenCall(nil)
		if got := attack(t, c.node).send(f); got.status != 200 {
			t.Fatalf("first: %d", got.status)
		}
		n = c.node.restart(t)
		a := attack(t, n)
		a.want("after the restart", a.send(f), 409, refusal.Replay)
		c.node = n
		if got := a.send(c.tokenCall(nil)); got.status != 200 {
			t.Fatalf("a fresh proof after the restart: %d %+v", got.status, got.problem)
		}
	})
}

func TestD9OnlyExactPaths(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	a := attack(t, c.node)
	token := c.cred(policy.Admin).Token
	for _, target := range []string{"//v1/tokens", "/v1//tokens", "/v1/tokens/", "/v1/./tokens", "/v1/x/../tokens", "/v1/tokens;x=1",
		"/v1/%74okens", "/v1%2ftokens", "/V1/tokens", "/v1/TOKENS", "/v1/tokens%00", "/v1/tokens%20", "/v1\\tokens", "/", "/v1", "/v1/{agent}"} {
		got := a.send(forged{method: "GET", target: target, token: token})
		if got.status != 400 && got.status != 404 {
			t.Errorf("%q: got %d", target, got.status)
		}
		if got.header.Get("Location") != "" {
			t.Errorf("%q redirects", target)
		}
	}
	got := a.send(forged{method: "GET", target: wire.PathTokens + "?a=1", token: token})
	a.want("unknown query", got, 400, refusal.BadRequest)
	a.want("query twice", a.send(forged{method: "GET", target: wire.PathRoster + "?from=1&from=2", token: token}), 400, refusal.BadRequest)
	a.want("other method", a.send(forged{method: "PUT", target: wire.PathTokens, token: token}), 405, refusal.BadRequest)
}

func TestG12SetupIsGoneOnceUsed(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	a := attack(t, n)
	c, req := foundation(t, n)
	body := must(strict.Encode(req))
	for _, target := range []string{"/v1/setup/", "/v1/SETUP", "/v1/setup/x", "//v1/setup", "/setup"} {
		if got := a.send(forged{method: "POST", target: target, body: body}); got.status != 400 && got.status != 404 {
			t.Errorf("%q: got %d", target, got.status)
		}
	}
	wrong := req
	wrong.Code = append(wire.Bytes{}, req.Code...)
	wrong.Code[0] ^= 1
	a.want("wrong code", a.send(forged{method: "POST", target: wire.PathSetup, body: must(strict.Encode(wrong))}), 403, refusal.Forbidden)
	wrong = req
	wrong.Policy = wire.Bytes(testPolicy + "\n")
	a.want("wrong policy", a.send(forged{method: "POST", target: wire.PathSetup, body: must(strict.Encode(wrong))}), 403, refusal.PolicyMismatch)
	if got := a.send(forged{method: "POST", target: wire.PathSetup, body: body}); got.status != 200 {
		t.Fatalf("setup: %d %+v", got.status, got.problem)
	}
	a.want("same again", a.send(forged{method: "POST", target: wire.PathSetup, body: body}), 404, refusal.NotFound)
	// A second team of the attacker's with the used code.
	_, other := foundation(t, n)
	other.Code = req.Code
	if got := a.send(forged{method: "POST", target: wire.PathSetup, body: must(strict.Encode(other))}); got.status != 404 && got.status != 403 {
		t.Errorf("second team: got %d", got.status)
	}
	teams, err := n.store.Teams(t.Context())
	if err != nil || len(teams) != 1 || teams[0].ID.Wire() != c.state.Team() {
		t.Fatalf("%d teams, %v", len(teams), err)
	}
}

// The name is a part of the log's origin, which never changes: a team that lists the
// server under another is refused before there is a log.
func TestTeamListsTheServerUnderItsName(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	_, req := foundation(t, n)
	if _, err := n.verifyFounding(req, time.Now()); err != nil {
		t.Fatal(err)
	}
	renamed := &Server{cfg: Config{Name: "rv2"}, keys: n.keys}
	_, err := renamed.verifyFounding(req, time.Now())
	wantCode(t, err, refusal.BadName)
}

func TestK12UnknownAndDoubledFields(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	a := attack(t, c.node)
	good := string(c.tokenBody())
	for name, body := range map[string]string{
		"role":          `{"role":"owner",` + good[1:],
		"team":          `{"team_id":"` + wire.NewTeamID().String() + `",` + good[1:],
		"id":            `{"id":1,` + good[1:],
		"twice":         `{"token":null,` + good[1:],
		"twice by case": `{"Token":null,` + good[1:],
		"trailing":      good + `{}`,
		"trailing text": good + `x`,
		"not JSON":      `token`,
		"array":         `[` + good + `]`,
		"empty":         ``,
		"deep":          strings.Repeat(`{"token":`, 100) + `1` + strings.Repeat(`}`, 100),
	} {
		got := a.send(c.tokenCall(func(f *forged, p *wire.Proof) { f.body, p.Body = []byte(body), sha256.Sum256([]byte(body)) }))
		a.want(name, got, 400, refusal.BadRequest)
	}
}

func TestC16TeamFromTheCallIsNotRead(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	c, other := found(t, n), found(t, n)
	a := attack(t, n)
	h := other.newHost("theirs")
	h.dial()
	id := other.state.Team().String()
	f := forged{method: "GET", target: wire.PathAgents, token: c.cred(policy.Admin).Token,
		header: http.Header{"X-Team-Id": {id}, "Team_id": {id}, "Cookie": {"team_id=" + id}}}
	got := a.send(f)
	if got.status != 200 || bytes.Contains(got.body, []byte("theirs")) {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	f.target += "?team_id=" + id
	a.want("query", a.send(f), 400, refusal.BadRequest)
}

func TestC10C11C14Tokens(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	a := attack(t, c.node)
	cred := c.cred(policy.Admin)
	get := func(token string, h http.Header) answer {
		return a.send(forged{method: "GET", target: wire.PathAgents, token: token, header: h})
	}
	a.want("none", get("", nil), 401, refusal.NotLoggedIn)
	for name, token := range map[string]string{
		"four parts": cred.Token + ".x", "padding": cred.Token + "=", "two parts": "a.b",
		"cut": cred.Token[:len(cred.Token)-1], "flipped": flipMiddle(cred.Token), "20 KB": strings.Repeat("a", 20_000),
	} {
		if got := get(token, nil); got.status != 401 {
			t.Errorf("%s: got %d %s", name, got.status, got.problem.Code)
		}
	}
	long := "GET " + wire.PathAgents + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + strings.Repeat("a", 5<<20) + "\r\n\r\n"
	if statuses, closed := talk(t, c.node, long); len(statuses) != 1 || statuses[0] != 431 || !closed { // by hand: net/http's client may see the end before the answer
		t.Errorf("5 MB: statuses %v, closed %v", statuses, closed)
	}
	f := c.tokenCall(nil)
	proof := base64.RawURLEncoding.EncodeToString(must(statement.Sign(f.key, *f.proof)))
	a.want("proof as token", get(proof, nil), 401, refusal.WrongType)
	a.want("cookie", get("", http.Header{"Cookie": {"Authorization=Bearer " + cred.Token, "token=" + cred.Token}}), 401, refusal.NotLoggedIn)
	a.want("query", a.send(forged{method: "GET", target: wire.PathAgents + "?access_token=" + cred.Token}), 400, refusal.BadRequest)
	a.want("twice", get("", http.Header{"Authorization": {"Bearer " + cred.Token, "Bearer " + cred.Token}}), 401, refusal.BadToken)
	a.want("basic", get("", http.Header{"Authorization": {"Basic " + cred.Token}}), 401, refusal.BadToken)
	a.want("lower case", get("", http.Header{"Authorization": {"bearer " + cred.Token}}), 401, refusal.BadToken)
}

// flipMiddle changes a character of the signature that has all its bits.
func flipMiddle(token string) string {
	b := []byte(token)
	if i := len(b) - 40; b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return string(b)
}
