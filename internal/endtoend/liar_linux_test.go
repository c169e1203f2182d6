package endtoend

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/vault"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/rendezvous"
)

// liar is a rendezvous in the hands of an attacker. It has the real server's
// address and state folder, so every key that the team's roster gives to a
// server, and serves the real roster; then it does what it likes. Agents and
// clients recognise it as theirs.
type liar struct {
	t      testing.TB
	w      *world
	grant  key.Private[key.Grant]
	audit  key.Private[key.Audit]
	access key.Private[key.Access]
	relay  credential.Secret

	mu     sync.Mutex
	conns  map[key.ID]*websocket.Conn                        // guarded by mu
	asked  map[uint64]chan wire.Frame                        // guarded by mu
	nextID uint64                                            // guarded by mu
	papers map[key.ID]wire.AgentInfo                         // guarded by mu
	log    map[key.ID][]entry.Entry                          // guarded by mu; what each agent has handed in, verified
	wants  map[key.ID]int                                    // guarded by mu; how often each agent asked for news
	serves func(uint64) wire.RosterNews                      // guarded by mu; towards agents, nil for nothing
	tells  func(uint64) wire.RosterNews                      // guarded by mu; towards clients
	shows  wire.AuditGossip                                  // guarded by mu
	opens  func(wire.SessionOpen) (wire.SessionReply, error) // guarded by mu
}

// lie stops the world's server and takes its place. The relay is the real
// program, which has no part in it.
func (w *world) lie() *liar {
	w.t.Helper()
	w.server.stop()
	dir := w.path("server")
	l := &liar{
		t: w.t, w: w,
		grant:  must(keyfile.LoadKey[key.Grant](filepath.Join(dir, "grant.key"))),
		audit:  must(keyfile.LoadKey[key.Audit](filepath.Join(dir, "audit.key"))),
		access: must(keyfile.LoadKey[key.Access](filepath.Join(dir, "access.key"))),
		relay:  must(rendezvous.LoadRelaySecret(filepath.Join(dir, "relay.secret"))),
		conns:  map[key.ID]*websocket.Conn{}, asked: map[uint64]chan wire.Frame{}, papers: map[key.ID]wire.AgentInfo{},
		log: map[key.ID][]entry.Entry{}, wants: map[key.ID]int{},
	}
	st, text := w.ann.trust(), must(os.ReadFile(w.ann.state("policy.toml")))
	l.serves = chainOf(st, text)
	l.tells = l.serves
	w.startRelay()
	l.listen()
	return l
}

// chainOf serves what an honest server would.
func chainOf(st *roster.State, policy []byte) func(uint64) wire.RosterNews {
	return func(from uint64) wire.RosterNews {
		news := wire.RosterNews{Updates: st.After(from), Policy: policy}
		if from == 0 {
			news.Root = st.Root()
		}
		return news
	}
}

func (l *liar) listen() {
	l.t.Helper()
	dir := l.w.path("server")
	cert := must(tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")))
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+wire.PathLogin, l.login)
	mux.HandleFunc("GET "+wire.PathRoster, l.roster)
	mux.HandleFunc("GET "+wire.PathAgents, l.agents)
	mux.HandleFunc("GET "+wire.PathCheckpoint, l.checkpoint)
	mux.HandleFunc("POST "+wire.PathSessions, l.session)
	mux.HandleFunc("GET "+wire.ControlPath, l.control)
	ln, err := net.Listen("tcp", l.w.addr)
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	srv := &http.Server{Handler: mux, BaseContext: func(net.Listener) context.Context { return ctx }}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}))
	}()
	l.t.Cleanup(func() {
		cancel()
		_ = srv.Close()
		l.mu.Lock()
		for _, c := range l.conns {
			_ = c.CloseNow()
		}
		l.mu.Unlock()
		<-done
	})
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// login lets everybody in: the liar asks for nothing.
func (l *liar) login(w http.ResponseWriter, _ *http.Request) {
	reply(w, wire.LoginReply{Token: "liar", ExpiresAt: now() + 900_000, ServerTime: now()})
}

func (l *liar) roster(w http.ResponseWriter, r *http.Request) {
	from, _ := strconv.ParseUint(r.URL.Query().Get("from"), 10, 64)
	l.mu.Lock()
	defer l.mu.Unlock()
	reply(w, l.tells(from))
}

func (l *liar) agents(w http.ResponseWriter, _ *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := wire.AgentList{Agents: []wire.AgentInfo{}}
	for _, info := range l.papers {
		list.Agents = append(list.Agents, info)
	}
	reply(w, list)
}

func (l *liar) checkpoint(w http.ResponseWriter, _ *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	reply(w, l.shows)
}

func (l *liar) session(w http.ResponseWriter, r *http.Request) {
	var open wire.SessionOpen
	if err := json.NewDecoder(r.Body).Decode(&open); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	l.mu.Lock()
	opens := l.opens
	l.mu.Unlock()
	answer, err := opens(open)
	if err != nil {
		w.WriteHeader(http.StatusForbidden)
		reply(w, wire.Problem{Code: refusal.Of(err), Detail: err.Error(), RequestID: "liar"})
		return
	}
	reply(w, answer)
}

// control serves an agent's channel. It believes whatever the agent says.
func (l *liar) control(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{wire.ControlProtocol}})
	if err != nil {
		return
	}
	defer ws.CloseNow()
	ws.SetReadLimit(wire.MaxFrame)
	ctx := r.Context()
	var reg wire.Register
	if f, err := receive(ctx, ws); err != nil || json.Unmarshal(f.Body, &reg) != nil {
		return
	}
	hello, _, err := statement.OpenSelfSigned(reg.Registration, func(r wire.Registration, _ key.ID) (statement.Verifier, error) { return r.Agent, nil })
	if err != nil {
		return
	}
	if l.registers(ctx, ws, reg, hello) != nil {
		return
	}
	for {
		f, err := receive(ctx, ws)
		if err != nil {
			return
		}
		l.heard(ctx, ws, hello.Agent, f)
	}
}

// registers answers an agent. Nobody may ask it anything before it has that answer, so
// it is sent under the lock under which the agent is found.
func (l *liar) registers(ctx context.Context, ws *websocket.Conn, reg wire.Register, hello wire.Registration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := hello.Agent.ID()
	l.conns[id] = ws
	l.papers[id] = wire.AgentInfo{Token: reg.Token, Certificate: reg.Certificate, Online: true, LastSeen: now()}
	first := wire.Registered{ServerTime: now(), Heartbeat: wire.Millis(wire.HeartbeatEvery.Milliseconds()), AuditSeq: hello.AuditSeq}
	if l.serves != nil {
		first.Roster = l.serves(reg.Roster)
	}
	return l.send(ctx, ws, wire.FrameRegistered, 0, first)
}

func receive(ctx context.Context, ws *websocket.Conn) (f wire.Frame, err error) {
	_, raw, err := ws.Read(ctx)
	if err == nil {
		err = json.Unmarshal(raw, &f)
	}
	return f, err
}

func (l *liar) send(ctx context.Context, ws *websocket.Conn, typ wire.FrameType, id uint64, v any) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	raw, err := encode(wire.Frame{Type: typ, ID: id, Body: body})
	if err != nil {
		return err
	}
	return ws.Write(ctx, websocket.MessageBinary, raw)
}

// heard takes one frame of an agent.
func (l *liar) heard(ctx context.Context, ws *websocket.Conn, agent key.Public[key.Agent], f wire.Frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch f.Type {
	case wire.FrameAccept, wire.FrameRefuse:
		if ch := l.asked[f.ID]; ch != nil {
			delete(l.asked, f.ID)
			ch <- f
		}
	case wire.FrameRoster:
		l.wants[agent.ID()]++
		var want wire.RosterWant
		if l.serves != nil && json.Unmarshal(f.Body, &want) == nil {
			_ = l.send(ctx, ws, wire.FrameRoster, 0, l.serves(want.Version))
		}
	case wire.FrameAudit:
		var batch wire.AuditEntries
		if json.Unmarshal(f.Body, &batch) != nil {
			return
		}
		var last uint64
		for _, s := range batch.Entries {
			e, _, err := statement.Open[entry.Entry](s, func(key.ID) (statement.Verifier, error) { return agent, nil })
			if err != nil {
				l.t.Errorf("an agent handed in an entry that it did not sign: %v", err)
				return
			}
			list := l.log[agent.ID()]
			if n := len(list); n == 0 || list[n-1].Seq < e.Seq { // else it was sent again after a pause
				l.log[agent.ID()] = append(list, e)
			}
			last = e.Seq
		}
		_ = l.send(ctx, ws, wire.FrameAuditAck, 0, wire.AuditAck{Seq: last})
	}
}

// ask puts an OPEN to a machine and returns its answer.
func (l *liar) ask(m *machine, open wire.OpenSession) (wire.SessionReply, error) {
	l.mu.Lock()
	ws := l.conns[m.key().ID()]
	l.nextID++
	id, ch := l.nextID, make(chan wire.Frame, 1)
	l.asked[id] = ch
	l.mu.Unlock()
	if ws == nil {
		return wire.SessionReply{}, refusal.New(refusal.Offline, "%s is not connected", m.name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := l.send(ctx, ws, wire.FrameOpen, id, open); err != nil {
		return wire.SessionReply{}, err
	}
	select {
	case f := <-ch:
		if f.Type == wire.FrameRefuse {
			var r wire.Refuse
			if err := json.Unmarshal(f.Body, &r); err != nil {
				return wire.SessionReply{}, err
			}
			return wire.SessionReply{}, &refusal.Error{Code: r.Code, Detail: r.Detail}
		}
		var a wire.AcceptSession
		err := json.Unmarshal(f.Body, &a)
		return wire.SessionReply{Accept: a.Accept, Grant: open.Grant.Hash()}, err
	case <-ctx.Done():
		return wire.SessionReply{}, refusal.New(refusal.Unreachable, "%s does not answer", m.name)
	}
}

// push sends news to a machine that did not ask.
func (l *liar) push(m *machine, news wire.RosterNews) {
	l.t.Helper()
	l.mu.Lock()
	ws := l.conns[m.key().ID()]
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := l.send(ctx, ws, wire.FrameRoster, 0, news); err != nil {
		l.t.Fatal(err)
	}
}

// offer is what an honest server would ask a machine, and the relay credential of
// the operator's side.
func (l *liar) offer(m *machine, open wire.SessionOpen, edit func(*wire.Grant)) (wire.OpenSession, wire.Relay) {
	l.t.Helper()
	op, ag := credential.MintPair(l.relay, time.Now(), time.Minute)
	req := l.request(open.Request)
	at := now()
	g := wire.Grant{ID: wire.NewNonce(), IssuedAt: at, ExpiresAt: at + 60_000, Team: req.Team, RequestHash: open.Request.Hash(),
		Agent: req.Agent, Rule: "team", PolicyHash: req.PolicyHash, Relay: l.relayOf(ag)}
	if edit != nil {
		edit(&g)
	}
	return wire.OpenSession{Request: open.Request, Open: open.Open, Grant: must(statement.Sign(l.grant, g)), Approvals: []statement.Signed{}}, l.relayOf(op)
}

func (l *liar) relayOf(c credential.Credential) wire.Relay {
	return wire.Relay{Endpoints: []wire.RelayEndpoint{{UDP: l.w.relay, TCP: l.w.relay}}, Username: c.Username, Password: c.Password, ExpiresAt: wire.At(c.ExpiresAt)}
}

// request reads a request without believing it.
func (l *liar) request(s statement.Signed) wire.Request {
	l.t.Helper()
	var env struct{ Payload string }
	decode(l.t, string(s), &env)
	var req wire.Request
	decode(l.t, string(must(base64.RawURLEncoding.DecodeString(env.Payload))), &req)
	return req
}

// forward is honest.
func (l *liar) forward(m *machine, open wire.SessionOpen) (wire.SessionReply, error) {
	offer, relay := l.offer(m, open, nil)
	answer, err := l.ask(m, offer)
	answer.Relay = relay
	return answer, err
}

// on sets what happens to the next session requests.
func (l *liar) on(f func(wire.SessionOpen) (wire.SessionReply, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opens = f
}

// set changes what the liar serves.
func (l *liar) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// awaits waits until a machine has found its server again, or rather the liar.
func (l *liar) awaits(list ...*machine) {
	l.t.Helper()
	for _, m := range list {
		id := m.key().ID()
		eventually(l.t, m.name+" connects to the liar", func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.conns[id] != nil
		})
	}
}

// logged counts a machine's own entries of a kind.
func (l *liar) logged(m *machine, typ entry.EventType, code refusal.Code) (n int) {
	l.t.Helper()
	id := m.key().ID()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.log[id] {
		if e.Type == typ && e.Refusal == code {
			n++
		}
	}
	return n
}

// entries are a machine's own about one request.
func (l *liar) entries(m *machine, request key.Hash) (list []entry.Entry) {
	l.t.Helper()
	id := m.key().ID()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.log[id] {
		if e.RequestHash == request {
			list = append(list, e)
		}
	}
	return list
}

// ownerKey is the recovery key: who robs an owner has it. The liar alone has not.
func (w *world) ownerKey() key.Private[key.Owner] {
	w.t.Helper()
	return must(vault.ParseRecovery(must(os.ReadFile(w.path("ann-recovery")))))
}

// reseal changes a statement's payload or says that another key signed it, and
// keeps the signature.
func reseal(t testing.TB, s statement.Signed, kid string, old, new string) statement.Signed {
	t.Helper()
	var env map[string]string
	decode(t, string(s), &env)
	payload := string(must(base64.RawURLEncoding.DecodeString(env["payload"])))
	if kid == "" {
		kid = env["kid"]
	}
	if changed := strings.Replace(payload, old, new, 1); old == "" || changed != payload {
		payload = changed
	} else {
		t.Fatalf("nothing to change: no %q in %s", old, payload)
	}
	return statement.Signed(fmt.Sprintf(`{"payload":%q,"type":%q,"kid":%q,"sig":%q}`, base64.RawURLEncoding.EncodeToString([]byte(payload)), env["type"], kid, env["sig"]))
}
