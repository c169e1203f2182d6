package endtoend

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/handshake"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// flipped returns m2 with one bit of byte at turned.
func flipped(m2 wire.Bytes, at int) wire.Bytes {
	m2 = bytes.Clone(m2)
	m2[at] ^= 1
	return m2
}

// TestLiarCannotAnswerForMachines lets the machine accept and changes its answer
// on the way back, or answers in its stead.
func TestLiarCannotAnswerForMachines(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web, db := w.agent("web", "web"), w.agent("db", "web")
	w.ann.run("ls").is(t, 0)
	l := w.lie()
	l.awaits(web, db)
	change := func(edit func(*wire.SessionReply)) func(wire.SessionOpen) (wire.SessionReply, error) {
		return func(open wire.SessionOpen) (wire.SessionReply, error) {
			r, err := l.forward(web, open)
			if err == nil {
				edit(&r)
			}
			return r, err
		}
	}
	var earlier wire.Bytes
	l.on(change(func(r *wire.SessionReply) { earlier = r.Accept }))
	w.ann.run("exec", "web", "--", "true").is(t, 0)
	other := must(handshake.NewOperator(handshake.OperatorConfig{Identity: w.ann.key(), Suites: []handshake.Suite{handshake.X25519}}))
	foreign := must(other.Open(key.Hash{}))[88:120]

	var told []attempt // what became of each case
	for _, c := range []struct {
		name string
		want refusal.Code
		exit int
		tell func(wire.SessionOpen) (wire.SessionReply, error)
	}{
		{"B4 another E_a", refusal.HandshakeFailed, 255, change(func(r *wire.SessionReply) { copy(r.Accept[96:], foreign) })},
		{"B4 a bit of E_a", refusal.HandshakeFailed, 255, change(func(r *wire.SessionReply) { r.Accept = flipped(r.Accept, 100) })},
		{"B8 a bit of the ciphertext", refusal.HandshakeFailed, 255, change(func(r *wire.SessionReply) { r.Accept = flipped(r.Accept, 500) })},
		{"B4 a bit of the grant's hash", refusal.HandshakeFailed, 255, change(func(r *wire.SessionReply) { r.Accept = flipped(r.Accept, 40) })},
		{"B4 a bit of the roster's hash", refusal.HandshakeFailed, 255, change(func(r *wire.SessionReply) { r.Accept = flipped(r.Accept, 70) })},
		{"B4 the machine's index", refusal.HandshakeFailed, 255, change(func(r *wire.SessionReply) { r.Accept = flipped(r.Accept, 9) })},
		{"B4 a bit of the sealed part", refusal.HandshakeFailed, 255, change(func(r *wire.SessionReply) { r.Accept = flipped(r.Accept, len(r.Accept)-20) })},
		{"B4 a bit of the tag", refusal.HandshakeFailed, 255, change(func(r *wire.SessionReply) { r.Accept = flipped(r.Accept, len(r.Accept)-1) })},
		{"B4 another session", refusal.BadMessage, 255, change(func(r *wire.SessionReply) { r.Accept = flipped(r.Accept, 16) })},
		{"B4 reserved bits", refusal.BadMessage, 255, change(func(r *wire.SessionReply) { r.Accept = flipped(r.Accept, 12) })},
		{"B4 cut short", refusal.BadMessage, 255, change(func(r *wire.SessionReply) { r.Accept = r.Accept[:len(r.Accept)-1] })},
		{"B4 an earlier answer", refusal.BadMessage, 255, change(func(r *wire.SessionReply) { r.Accept = earlier })},
		{"B1 low-order E_a", refusal.BadEphemeral, 255, change(func(r *wire.SessionReply) { clear(r.Accept[96:128]) })},
		{"B7 suite 2 to 1 in the answer", refusal.BadMessage, 255, change(func(r *wire.SessionReply) { r.Accept = flipped(r.Accept, 3); r.Accept[3] = 1 })},
		{"B7 suite 2 to 1, ciphertext taken off", refusal.HandshakeFailed, 255, change(func(r *wire.SessionReply) {
			r.Accept = append(bytes.Clone(r.Accept[:128]), r.Accept[128+1088:]...)
			binary.BigEndian.PutUint16(r.Accept[2:], 1)
		})},
		{"B5 the liar's own key answers", refusal.UnknownAgent, 255, func(open wire.SessionOpen) (wire.SessionReply, error) {
			return l.answers(must(key.Generate[key.Agent]()), open)
		}},
		{"B5 another machine of the team answers", refusal.UnknownAgent, 255, func(open wire.SessionOpen) (wire.SessionReply, error) {
			return l.answers(db.key(), open) // as if db had been broken into
		}},
		{"another grant than the machine got", refusal.GrantMismatch, 255, change(func(r *wire.SessionReply) { r.Grant[0] ^= 1 })},
		{"approved and pending at once", refusal.ApprovalPending, 252, func(open wire.SessionOpen) (wire.SessionReply, error) {
			return wire.SessionReply{Pending: &wire.RequestInfo{Hash: open.Request.Hash(), Request: open.Request, State: wire.RequestApproved, Roles: []string{}}}, nil
		}},
		{"nothing", refusal.BadMessage, 255, func(wire.SessionOpen) (wire.SessionReply, error) { return wire.SessionReply{}, nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := attempt{name: c.name, marker: w.marker()}
			l.on(func(open wire.SessionOpen) (wire.SessionReply, error) {
				r, err := c.tell(open)
				l.set(func() {
					at.request, at.hash = l.request(open.Request), open.Request.Hash()
					at.machine = err == nil && r.Relay.Username != "" // forward has it, changed or not; answers has not
				})
				return r, err
			})
			w.ann.run("exec", "web", "--", "touch", at.marker).refused(t, c.exit, "error: "+string(c.want))
			if exists(at.marker) {
				t.Error("the command ran")
			}
			l.set(func() { told = append(told, at) })
		})
	}
	// What the machine accepted and nobody confirmed ends without keys, and is in its
	// log as that: once, with who asked for what. Of an answer that was given in its
	// stead it knows nothing, and says nothing.
	machine := 0
	for _, at := range told {
		want := 0
		if at.machine {
			want, machine = 1, machine+1
		}
		eventually(t, at.name+": the machine's own entry", func() bool { return len(l.entries(web, at.hash)) >= want })
	}
	if machine != 16 || len(told) != 20 {
		t.Errorf("%d of %d answers were the machine's, want 16 of 20", machine, len(told))
	}
	for _, at := range told {
		at.isLogged(t, l, web)
		if list := l.entries(db, at.hash); len(list) != 0 {
			t.Errorf("%s: a machine that had no part in it has %d entries", at.name, len(list))
		}
	}
	if n := l.logged(web, entry.SessionRefuse, refusal.Unreachable); n != machine {
		t.Errorf("%d refusals in the machine's log, want %d", n, machine)
	}
	for _, typ := range []entry.EventType{entry.SessionAccept, entry.ExecStart} {
		if n := l.logged(web, typ, ""); n != 1 {
			t.Errorf("%d entries %s, want that of the honest session", n, typ)
		}
	}
}

// attempt is one session request that the liar answered with a lie.
type attempt struct {
	name    string
	marker  string
	request wire.Request
	hash    key.Hash
	machine bool // the machine was asked and accepted
}

// isLogged looks at the entry of a request that the machine accepted and nobody
// confirmed.
func (at attempt) isLogged(t *testing.T, l *liar, m *machine) {
	t.Helper()
	list := l.entries(m, at.hash)
	if !at.machine {
		if len(list) != 0 {
			t.Errorf("%s: the machine was not asked and has %d entries: %+v", at.name, len(list), list)
		}
		return
	}
	if len(list) != 1 {
		t.Errorf("%s: %d entries: %+v", at.name, len(list), list)
		return
	}
	e := list[0]
	if e.Type != entry.SessionRefuse || e.Refusal != refusal.Unreachable || e.Session != at.request.Session {
		t.Errorf("%s: %s %q of session %v", at.name, e.Type, e.Refusal, e.Session)
	}
	if e.Actor.Kid != l.w.ann.key().ID() || e.Actor.Email != "ann@acme.example" || e.Target.Agent != m.key().ID() || e.Target.Name != m.name {
		t.Errorf("%s: by %+v at %+v", at.name, e.Actor, e.Target)
	}
	if c := e.Command; c == nil || c.Action != "exec" || len(c.Argv) != 2 || string(c.Argv[0]) != "touch" || string(c.Argv[1]) != at.marker || c.ExitCode != nil {
		t.Errorf("%s: command %+v", at.name, c)
	}
}

// answers is ACCEPT by whoever holds k.
func (l *liar) answers(k key.Private[key.Agent], open wire.SessionOpen) (wire.SessionReply, error) {
	req := l.request(open.Request)
	_, m2, err := handshake.Accept(handshake.AgentConfig{Identity: k, Operator: l.w.ann.key().Public(), RosterHash: req.RosterHash, Flags: uint32(wire.SessionProtocol)}, open.Open)
	return wire.SessionReply{Accept: m2, Relay: wire.Relay{Endpoints: []wire.RelayEndpoint{{UDP: l.w.relay}}}}, err
}

// TestLiarCannotRewriteTheTeam serves clients a team of its own making.
func TestLiarCannotRewriteTheTeam(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web := w.agent("web", "web")
	w.ann.owner("team", "renew").is(t, 0) // version 2
	for range 2 {
		w.ann.run("exec", "web", "--", "true").is(t, 0)
	}
	w.ann.run("login").is(t, 0)
	st, text := w.ann.trust(), must(os.ReadFile(w.ann.state("policy.toml")))
	seen := string(must(os.ReadFile(w.ann.state("audit.seen"))))
	l := w.lie()
	l.awaits(web)
	owner, stranger := w.ownerKey(), must(key.Generate[key.Owner]())
	next := func(by key.Private[key.Owner], after *roster.State, edit func(*roster.Roster)) wire.RosterUpdate {
		r := roster.Next(after, func(r *roster.Roster) { r.Renew(time.Now(), roster.DefaultLifetime) })
		if edit != nil {
			edit(&r)
		}
		return must(roster.Sign(by, r))
	}
	v3 := next(owner, st, nil)
	after := must(st.Apply(v3, time.Now()))
	first := must(roster.Found(st.Root(), st.Fingerprint(), st.Chain()[0]))
	lax := []byte("version = 1\nmode = \"enforce\"\n[[allow]]\nid = \"all\"\nwho.roles = [\"admin\"]\nactions = [\"shell\", \"exec\"]\n")

	for _, c := range []struct {
		name string
		want refusal.Code
		news wire.RosterNews
	}{
		{"G1 another version 2", refusal.Fork, wire.RosterNews{Updates: []wire.RosterUpdate{next(owner, first, nil)}}},
		{"G1 version 4 after 2", refusal.Gap, wire.RosterNews{Updates: []wire.RosterUpdate{next(owner, after, nil)}}},
		{"G1 version 3 after another 2", refusal.BadChain, wire.RosterNews{Updates: []wire.RosterUpdate{next(owner, st, func(r *roster.Roster) { r.Previous[0] ^= 1 })}}},
		{"G1 another version 1", refusal.Rollback, wire.RosterNews{Updates: []wire.RosterUpdate{next(owner, first, func(r *roster.Roster) { r.Version, r.Previous = 1, st.Fingerprint() })}}},
		{"G2 signed by a stranger", refusal.NotEnoughSignatures, wire.RosterNews{Updates: []wire.RosterUpdate{next(stranger, st, nil)}}},
		{"G2 a new owner signs its own entry", refusal.NotEnoughSignatures, wire.RosterNews{Updates: []wire.RosterUpdate{next(stranger, st, func(r *roster.Roster) { r.Owners = append(r.Owners, stranger.Public()) })}}},
		{"G3 of another team", refusal.WrongTeam, wire.RosterNews{Updates: []wire.RosterUpdate{next(owner, st, func(r *roster.Roster) { r.Team = wire.NewTeamID() })}}},
		{"another policy", refusal.PolicyMismatch, wire.RosterNews{Updates: []wire.RosterUpdate{v3}, Policy: lax}},
	} {
		t.Run("client "+c.name, func(t *testing.T) {
			l.set(func() { l.tells = func(uint64) wire.RosterNews { return c.news } })
			a := w.ann.run("team", "show")
			if a.code == 0 || !strings.Contains(a.err, "error: "+string(c.want)) || a.out != "" {
				t.Errorf("exit %d, %q, want %s", a.code, a.err, c.want)
			}
			if now := w.ann.trust(); now.Hash() != st.Hash() {
				t.Errorf("the client now has roster version %d", now.Version())
			}
		})
	}
	t.Run("client sees machines of the liar's", func(t *testing.T) {
		l.set(func() {
			l.tells = chainOf(st, text)
			info := l.papers[web.key().ID()]
			token := must(key.Generate[key.Token]())
			tok := roster.Token{ID: wire.NewNonce(), Team: st.Team(), Fingerprint: st.Fingerprint(), Server: st.Roster().Servers[0].Address(), Tags: []string{"web"},
				IssuedAt: now(), ExpiresAt: now() + 60_000, MaxUses: 1, Key: token.Public()}
			mine := must(key.Generate[key.Agent]())
			info.Token = must(roster.SignToken(must(key.Generate[key.Enroller]()), tok))
			info.Certificate = must(roster.SignAgent(token, tok, roster.AgentCert{Team: st.Team(), Agent: mine.Public(), Name: "trap", Tags: []string{"web"}, TokenID: tok.ID, IssuedAt: now()}))
			l.papers[mine.ID()] = info
		})
		w.ann.run("exec", "trap", "--", "true").refused(t, 255, "not_found")
		if a := w.ann.run("ls").is(t, 0); strings.Contains(a.out, "trap") {
			t.Errorf("ls lists it:\n%s", a.out)
		}
	})
	t.Run("G1 agent", func(t *testing.T) { l.rewritesFor(t, web, owner, stranger, st) })
	t.Run("client sees another log", func(t *testing.T) {
		w.ann.run("login").is(t, 0) // the liar shows nothing: nothing new
		server := st.Roster().Servers[0]
		l.set(func() {
			l.shows.Checkpoint = l.checkpointOf(checkpoint.Origin(server.Name, st.Team()), 2, sha256.Sum256([]byte("x")))
		})
		w.ann.run("login").refused(t, 253, "audit_fork")
		l.set(func() { l.shows = wire.AuditGossip{} })
		l.on(func(open wire.SessionOpen) (wire.SessionReply, error) { return l.forward(web, open) })
		w.ann.run("exec", "web", "--", "true").refused(t, 253, "audit_fork")
		if now := string(must(os.ReadFile(w.ann.state("audit.seen")))); now == seen || !strings.Contains(now, "evidence") {
			t.Errorf("the client keeps no evidence: %s", now)
		}
	})
}

// checkpointOf signs a checkpoint with the server's audit key, in the form of a
// C2SP signed note.
func (l *liar) checkpointOf(origin string, size int, root key.Hash) string {
	text := fmt.Sprintf("%s\n%d\n%s\n", origin, size, base64.StdEncoding.EncodeToString(root[:]))
	pub := l.audit.Public().Bytes()
	id := sha256.Sum256(append([]byte(origin+"\n\x01"), pub...))
	sig := append(id[:4:4], l.audit.Sign([]byte(text))...)
	return text + "\n— " + origin + " " + base64.StdEncoding.EncodeToString(sig) + "\n"
}

// rewritesFor pushes rosters of the same kinds to a machine. The fork comes last:
// after it the machine takes no new session until a person has looked.
func (l *liar) rewritesFor(t *testing.T, m *machine, owner, stranger key.Private[key.Owner], st *roster.State) {
	renewed := func(after *roster.State) roster.Roster {
		return roster.Next(after, func(r *roster.Roster) { r.Renew(time.Now(), roster.DefaultLifetime) })
	}
	after := must(st.Apply(must(roster.Sign(owner, renewed(st))), time.Now()))
	first := must(roster.Found(st.Root(), st.Fingerprint(), st.Chain()[0]))
	broken := renewed(st)
	broken.Previous[0] ^= 1
	older := renewed(first)
	older.Version, older.Previous = 1, st.Fingerprint()
	expire := func(r roster.Roster) roster.Roster { r.IssuedAt += 86_400_000; r.ExpiresAt += 86_400_000; return r }
	for _, c := range []struct {
		want refusal.Code
		by   key.Private[key.Owner]
		r    roster.Roster
	}{
		{refusal.Gap, owner, renewed(after)}, {refusal.BadChain, owner, broken}, {refusal.Rollback, owner, older},
		{refusal.NotEnoughSignatures, stranger, renewed(st)}, {refusal.NotYetValid, owner, expire(renewed(st))},
	} {
		l.push(m, wire.RosterNews{Updates: []wire.RosterUpdate{must(roster.Sign(c.by, c.r))}})
		eventually(t, "the machine records "+string(c.want), func() bool { return l.logged(m, entry.RosterApplied, c.want) == 1 })
	}
	l.push(m, wire.RosterNews{Updates: st.Chain()[:1]}) // the true version 1 is old news and no attack
	l.on(func(open wire.SessionOpen) (wire.SessionReply, error) { return l.forward(m, open) })
	l.w.ann.run("exec", m.name, "--", "true").is(t, 0)

	l.push(m, wire.RosterNews{Updates: []wire.RosterUpdate{must(roster.Sign(owner, renewed(first)))}})
	eventually(t, "the machine records the fork", func() bool { return l.logged(m, entry.RosterApplied, refusal.Fork) == 1 })
	l.refusedAt(t, m, refusal.Fork, func(marker string) answer { return l.w.ann.run("exec", m.name, "--", "touch", marker) })
	m.proc.stop()
	m.start() // still, after a restart
	l.refusedAt(t, m, refusal.Fork, func(marker string) answer { return l.w.ann.run("exec", m.name, "--", "touch", marker) })
}

// TestG5Freeze lets the team go on to version 2 while the liar shows a machine
// version 1 alone.
func TestG5Freeze(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lag := w.join("lag", "web") // knows version 1 and does not run
	w.ann.run("ls").is(t, 0)
	w.ann.owner("team", "renew").is(t, 0)
	l := w.lie()
	news := l.serves
	l.set(func() { l.serves = nil })
	lag.start()
	l.awaits(lag)
	l.on(func(open wire.SessionOpen) (wire.SessionReply, error) { return l.forward(lag, open) })
	l.refusedAt(t, lag, refusal.RosterBehind, func(marker string) answer { return w.ann.run("exec", "lag", "--", "touch", marker) })
	id := lag.key().ID()
	eventually(t, "the machine asks for the version that ann knows", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.wants[id] > 0
	})
	// Asked, the server hands it out after all: then ann has carried the news.
	l.set(func() { l.serves = news })
	w.ann.run("exec", "lag", "--", "true").is(t, 0)
	lag.proc.says("roster applied", 1)
}
