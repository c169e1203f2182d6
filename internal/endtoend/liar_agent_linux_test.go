package endtoend

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/handshake"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/approval"
)

// lies are what a rendezvous can do to a session request on its way to the
// machine. Each takes the honest offer and returns what the machine gets.
type lie struct {
	name string
	host string // that ann asks for
	want refusal.Code
	tell func(l *liar, m *machine, open wire.SessionOpen) wire.OpenSession
}

// edited is the honest offer with a change.
func edited(edit func(l *liar, o *wire.OpenSession)) func(*liar, *machine, wire.SessionOpen) wire.OpenSession {
	return func(l *liar, m *machine, open wire.SessionOpen) wire.OpenSession {
		o, _ := l.offer(m, open, nil)
		edit(l, &o)
		return o
	}
}

// granted is the honest offer with another grant.
func granted(edit func(*wire.Grant)) func(*liar, *machine, wire.SessionOpen) wire.OpenSession {
	return func(l *liar, m *machine, open wire.SessionOpen) wire.OpenSession {
		o, _ := l.offer(m, open, edit)
		return o
	}
}

var lies = []lie{
	{"B3 another E_o", "web", refusal.EphMismatch, edited(func(l *liar, o *wire.OpenSession) {
		o.Open = l.ownOpen(*o, l.request(o.Request).Session)
	})},
	{"B3 another E_o and a request for it by the liar's own key", "web", refusal.UnknownKey, edited(func(l *liar, o *wire.OpenSession) {
		o.Request = l.ownRequest(o, must(key.Generate[key.Operator]()))
	})},
	{"B3 another E_o and a request for it under ann's name", "web", refusal.BadSignature, edited(func(l *liar, o *wire.OpenSession) {
		mallory := must(key.Generate[key.Operator]())
		ann := l.request(o.Request).Operator.String()
		o.Request = reseal(l.t, l.ownRequest(o, mallory), ann, mallory.ID().String(), ann)
	})},
	{"B7 version lowered", "web", refusal.BadMessage, edited(func(_ *liar, o *wire.OpenSession) { o.Open[1] = 0 })},
	{"B7 version raised", "web", refusal.BadMessage, edited(func(_ *liar, o *wire.OpenSession) { o.Open[1] = 2 })},
	{"B7 suite 2 to 1, encapsulation key left", "web", refusal.BadMessage, edited(func(_ *liar, o *wire.OpenSession) { o.Open[3] = 1 })},
	{"B7 suite 2 to 1, encapsulation key taken off", "web", refusal.EphMismatch, edited(func(_ *liar, o *wire.OpenSession) {
		o.Open[3] = 1
		o.Open = o.Open[:120]
	})},
	{"B7 suites stripped from the request", "web", refusal.BadSignature, edited(func(l *liar, o *wire.OpenSession) {
		o.Request = reseal(l.t, o.Request, "", `"suites":[2,1]`, `"suites":[1]`)
	})},
	{"B9 one byte less", "web", refusal.BadMessage, edited(func(_ *liar, o *wire.OpenSession) { o.Open = o.Open[:len(o.Open)-1] })},
	{"OPEN for another request", "web", refusal.BadMessage, edited(func(_ *liar, o *wire.OpenSession) { o.Open[24] ^= 1 })},
	{"OPEN for another session", "web", refusal.BadMessage, edited(func(_ *liar, o *wire.OpenSession) { o.Open[8] ^= 1 })},
	{"OPEN with another roster", "web", refusal.BadMessage, edited(func(_ *liar, o *wire.OpenSession) { o.Open[56] ^= 1 })},
	{"other arguments", "web", refusal.BadSignature, edited(func(l *liar, o *wire.OpenSession) {
		o.Request = reseal(l.t, o.Request, "", `"tty":false`, `"tty":true`)
	})},
	{"a grant as the request", "web", refusal.WrongType, edited(func(_ *liar, o *wire.OpenSession) { o.Request = o.Grant })},

	{"no grant", "web", refusal.BadStatement, edited(func(_ *liar, o *wire.OpenSession) { o.Grant = nil })},
	{"grant for another request", "web", refusal.GrantMismatch, granted(func(g *wire.Grant) { g.RequestHash[0] ^= 1 })},
	{"grant for another machine", "web", refusal.GrantMismatch, granted(func(g *wire.Grant) { g.Agent[0] ^= 1 })},
	{"grant of another team", "web", refusal.GrantMismatch, granted(func(g *wire.Grant) { g.Team[0] ^= 1 })},
	{"grant that has expired", "web", refusal.Expired, granted(func(g *wire.Grant) { g.IssuedAt, g.ExpiresAt = now()-30_000, now()-1 })},
	{"grant that lives too long", "web", refusal.BadTime, granted(func(g *wire.Grant) { g.ExpiresAt = now() + 3_600_000 })},
	{"grant of the future", "web", refusal.NotYetValid, granted(func(g *wire.Grant) { g.IssuedAt, g.ExpiresAt = now()+120_000, now()+150_000 })},
	{"grant with a hundred relays", "web", refusal.TooMany, granted(func(g *wire.Grant) { g.Relay.Endpoints = slices.Repeat(g.Relay.Endpoints, 100) })},
	{"grant by a key that the roster does not have", "web", refusal.UnknownKey, edited(func(l *liar, o *wire.OpenSession) {
		o.Grant = must(statement.Sign(must(key.Generate[key.Grant]()), wire.Grant{ID: wire.NewNonce(), RequestHash: o.Request.Hash()}))
	})},
	{"grant by the server's audit key", "web", refusal.WrongRole, edited(func(l *liar, o *wire.OpenSession) {
		o.Grant = must(statement.Sign(l.audit, wire.Grant{ID: wire.NewNonce(), RequestHash: o.Request.Hash()}))
	})},

	{"E14 no approval needed", "prod", refusal.ApprovalRequired, edited(func(*liar, *wire.OpenSession) {})},
	{"E14 no approval needed, says the grant's rule", "prod", refusal.ApprovalRequired, granted(func(g *wire.Grant) { g.Rule = "look" })},
	{"E14 approval by the liar's own key", "prod", refusal.UnknownKey, edited(func(l *liar, o *wire.OpenSession) {
		o.Approvals = append(o.Approvals, l.approval(o.Request, must(key.Generate[key.Operator]())))
	})},
	{"E14 approval under bob's name", "prod", refusal.BadSignature, edited(func(l *liar, o *wire.OpenSession) {
		bob := l.w.person("bob").key().ID()
		o.Approvals = append(o.Approvals, reseal(l.t, l.approval(o.Request, must(key.Generate[key.Operator]())), bob.String(), "", ""))
	})},
	{"E14 approval by the server's grant key", "prod", refusal.WrongType, edited(func(l *liar, o *wire.OpenSession) { o.Approvals = append(o.Approvals, o.Grant) })},
	{"E2 the requester's own approval", "prod", refusal.SelfApproval, edited(func(l *liar, o *wire.OpenSession) {
		// Package approval does not sign this, so it is another's, signed again.
		bob := l.w.person("bob").key()
		a, _, _ := statement.Open[approval.Approval](l.approval(o.Request, bob), func(key.ID) (statement.Verifier, error) { return bob.Public(), nil })
		o.Approvals = append(o.Approvals, must(statement.Sign(l.w.ann.key(), a)))
	})},
	{"E4 bob's approval of another command", "prod", refusal.ApprovalMismatch, edited(func(l *liar, o *wire.OpenSession) {
		req := l.request(o.Request)
		req.Params.Argv = []wire.Bytes{wire.Bytes("true")}
		bob := l.w.person("bob").key()
		o.Approvals = append(o.Approvals, must(approval.Make(bob, req, must(statement.Sign(l.w.ann.key(), req)).Hash(), approval.Approve, time.Now())))
	})},
	{"E14 F10 the server's policy allows what the team's denies", "vault", refusal.PolicyDenied, edited(func(*liar, *wire.OpenSession) {})},
}

// approval approves a request with any key.
func (l *liar) approval(req statement.Signed, k key.Private[key.Operator]) statement.Signed {
	return must(approval.Make(k, l.request(req), req.Hash(), approval.Approve, time.Now()))
}

// ownOpen is an OPEN with an ephemeral key of the liar's.
func (l *liar) ownOpen(o wire.OpenSession, session wire.SessionID) wire.Bytes {
	shake := must(handshake.NewOperator(handshake.OperatorConfig{Identity: must(key.Generate[key.Operator]()), Session: session, RosterHash: l.request(o.Request).RosterHash}))
	return must(shake.Open(o.Request.Hash()))
}

// ownRequest puts an OPEN of the liar's into o and returns the request for it,
// signed by k: the man in the middle in full.
func (l *liar) ownRequest(o *wire.OpenSession, k key.Private[key.Operator]) statement.Signed {
	req := l.request(o.Request)
	shake := must(handshake.NewOperator(handshake.OperatorConfig{Identity: k, Session: req.Session, RosterHash: req.RosterHash}))
	req.Eph, req.Operator = shake.EphHash(), k.ID()
	signed := must(statement.Sign(k, req))
	o.Open = must(shake.Open(signed.Hash()))
	return signed
}

// TestLiarCannotOpenSessions tells every lie to real agents about the requests of
// a real client. Each must end in its name at both ends, in nothing that ran, and
// in an entry that the machine signed.
func TestLiarCannotOpenSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.enter("bob", "approver")
	hosts := map[string]*machine{"web": w.agent("web", "web"), "prod": w.agent("prod", "prod"), "vault": w.agent("vault", "vault")}
	w.ann.run("ls").is(t, 0)
	l := w.lie()
	l.awaits(hosts["web"], hosts["prod"], hosts["vault"])

	// The attacker can be honest too: else the rest would prove nothing.
	var kept wire.SessionOpen
	var keptOffer wire.OpenSession
	l.on(func(open wire.SessionOpen) (wire.SessionReply, error) {
		offer, relay := l.offer(hosts["web"], open, nil)
		kept, keptOffer = open, offer
		answer, err := l.ask(hosts["web"], offer)
		answer.Relay = relay
		return answer, err
	})
	if a := w.ann.run("exec", "web", "--", "echo", "honest").is(t, 0); a.out != "honest\n" {
		t.Fatalf("through an honest liar: %q", a.out)
	}

	for _, c := range lies {
		t.Run(c.name, func(t *testing.T) {
			m := hosts[c.host]
			l.on(func(open wire.SessionOpen) (wire.SessionReply, error) { return l.ask(m, c.tell(l, m, open)) })
			l.refusedAt(t, m, c.want, func(marker string) answer { return w.ann.run("exec", c.host, "--", "touch", marker) })
		})
	}

	t.Run("B10 the same OPEN again", func(t *testing.T) {
		l.toldAgain(t, hosts["web"], keptOffer, refusal.Replay)
	})
	t.Run("B10 the same request again with a fresh grant", func(t *testing.T) {
		offer, _ := l.offer(hosts["web"], kept, nil)
		l.toldAgain(t, hosts["web"], offer, refusal.Replay)
	})
	t.Run("B10 the same OPEN to another machine", func(t *testing.T) {
		l.toldAgain(t, hosts["prod"], keptOffer, refusal.WrongAgent)
	})
	t.Run("a grant for a request that follows", func(t *testing.T) {
		l.on(func(open wire.SessionOpen) (wire.SessionReply, error) {
			offer, _ := l.offer(hosts["web"], open, nil)
			offer.Grant = keptOffer.Grant
			return l.ask(hosts["web"], offer)
		})
		l.refusedAt(t, hosts["web"], refusal.GrantMismatch, func(marker string) answer { return w.ann.run("exec", "web", "--", "touch", marker) })
	})
	t.Run("E3 an approval that was used", func(t *testing.T) { l.usedApproval(t, hosts["prod"], bob) })
	t.Run("what ran", func(t *testing.T) {
		for name, want := range map[string]int{"web": 1, "prod": 1, "vault": 0} {
			if n := l.logged(hosts[name], entry.ExecStart, ""); n != want {
				t.Errorf("%s started %d programs, want %d", name, n, want)
			}
		}
	})
}

// refusedAt runs a command whose request the liar tampers with.
func (l *liar) refusedAt(t *testing.T, m *machine, want refusal.Code, run func(marker string) answer) {
	t.Helper()
	marker := l.w.marker()
	said, logged := m.proc.err.Count("code="+string(want)), l.logged(m, entry.SessionRefuse, want)
	a := run(marker)
	if a.code == 0 || !bytes.Contains([]byte(a.err), []byte("error: "+string(want))) {
		t.Errorf("the client exits %d and says %q, want %s", a.code, a.err, want)
	}
	eventually(t, "the agent's log says "+string(want), func() bool { return m.proc.err.Count("code="+string(want)) > said })
	eventually(t, "the machine's own log has the refusal", func() bool { return l.logged(m, entry.SessionRefuse, want) > logged })
	if exists(marker) {
		t.Error("the command ran")
	}
}

// toldAgain puts an OPEN to a machine without any client.
func (l *liar) toldAgain(t *testing.T, m *machine, offer wire.OpenSession, want refusal.Code) {
	t.Helper()
	logged := l.logged(m, entry.SessionRefuse, want)
	if _, err := l.ask(m, offer); refusal.Of(err) != want {
		t.Errorf("the machine answers %v, want %s", err, want)
	}
	eventually(t, "the machine's own log has the refusal", func() bool { return l.logged(m, entry.SessionRefuse, want) > logged })
}

// usedApproval has one command approved and run, and then asks for the same and
// for another one with that approval; also after the agent was restarted.
func (l *liar) usedApproval(t *testing.T, m *machine, bob *person) {
	var used wire.OpenSession
	l.on(func(open wire.SessionOpen) (wire.SessionReply, error) {
		offer, relay := l.offer(m, open, nil)
		offer.Approvals = append(offer.Approvals, l.approval(open.Request, bob.key()))
		used = offer
		answer, err := l.ask(m, offer)
		answer.Relay = relay
		return answer, err
	})
	l.w.ann.run("exec", "prod", "--", "true").is(t, 0)
	l.toldAgain(t, m, used, refusal.Replay)
	l.on(func(open wire.SessionOpen) (wire.SessionReply, error) {
		offer, _ := l.offer(m, open, nil)
		offer.Approvals = used.Approvals
		return l.ask(m, offer)
	})
	l.refusedAt(t, m, refusal.ApprovalMismatch, func(marker string) answer { return l.w.ann.run("exec", "prod", "--", "touch", marker) })
}
