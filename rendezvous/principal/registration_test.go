package principal

import (
	"crypto/sha256"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// site is a team with one server and one host that wants to register.
type site struct {
	t       testing.TB
	state   *roster.State
	server  key.ID
	channel key.Hash
	agent   key.Private[key.Agent]
	message wire.Register
	reg     wire.Registration
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{t: t, server: private[key.Access](t, 2).ID(), channel: sha256.Sum256([]byte("channel")), agent: private[key.Agent](t, 30)}
	s.found()
	s.join()
	return s
}

func (s *site) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) found() {
	owner := private[key.Owner](s.t, 1)
	root, err := roster.SignRoot(owner, roster.Root{Team: wire.TeamID{7}, Owners: []key.Public[key.Owner]{owner.Public()}, Threshold: 1, Name: "example"})
	s.check(err)
	opened, err := roster.OpenRoot(root, root.Hash())
	s.check(err)
	first, err := roster.Sign(owner, roster.First(opened, root.Hash(), func(r *roster.Roster) {
		r.Renew(now, roster.DefaultLifetime)
		r.Servers = []roster.Server{{Name: "r.example", URL: "https://r.example", Keys: wire.ServerKeys{
			Access: private[key.Access](s.t, 2).Public(), Grant: private[key.Grant](s.t, 3).Public(),
			Audit: private[key.Audit](s.t, 4).Public(), TLS: sha256.Sum256(nil),
		}}}
		r.Enrollers = []roster.Enroller{{Key: private[key.Enroller](s.t, 5).Public(), Tags: []string{"prod"}, MaxLifetime: 3600}}
	}))
	s.check(err)
	s.state, err = roster.Found(root, root.Hash(), first)
	s.check(err)
}

func (s *site) join() {
	token := private[key.Token](s.t, 60)
	tok := roster.Token{
		ID: wire.Nonce{1}, Team: s.state.Team(), Fingerprint: s.state.Fingerprint(), Server: s.state.Roster().Servers[0].Address(),
		Tags: []string{"prod"}, IssuedAt: wire.At(now), ExpiresAt: wire.At(now.Add(time.Hour)), MaxUses: 1, Key: token.Public(),
	}
	var err error
	s.message.Token, err = roster.SignToken(private[key.Enroller](s.t, 5), tok)
	s.check(err)
	s.message.Certificate, err = roster.SignAgent(token, tok, roster.AgentCert{
		Team: s.state.Team(), Agent: s.agent.Public(), Name: "web", Tags: []string{"prod"}, TokenID: tok.ID, IssuedAt: wire.At(now),
	})
	s.check(err)
	s.reg = wire.Registration{
		ID: wire.NewNonce(), IssuedAt: wire.At(now), Team: s.state.Team(), Agent: s.agent.Public(),
		Certificate: s.message.Certificate.Hash(), Server: s.server, Channel: s.channel,
	}
}

// register signs the registration with by and asks for the principal.
func (s *site) register(by statement.Signer, at time.Time) (Agent, error) {
	s.t.Helper()
	var err error
	s.message.Registration, err = statement.Sign(by, s.reg)
	s.check(err)
	return FromRegistration(s.message, func(wire.TeamID) (*roster.State, error) { return s.state, nil }, s.server, s.channel, at)
}

func TestRegistrationGivesItsTeam(t *testing.T) {
	s := newSite(t)
	a, err := s.register(s.agent, now)
	s.check(err)
	if a.Team != Trusted(s.state.Team()) || a.Key != s.agent.Public() || a.Certificate.Name != "web" || a.Registration.ID != s.reg.ID {
		t.Errorf("agent %+v", a)
	}
	for _, away := range []time.Duration{-wire.RegistrationSkew, wire.RegistrationSkew} {
		if _, err := s.register(s.agent, now.Add(away)); err != nil {
			t.Errorf("%v away: %v", away, err)
		}
	}
}

func TestB16Registrations(t *testing.T) {
	other := private[key.Agent](t, 31)
	for name, c := range map[string]struct {
		code refusal.Code
		edit func(s *site) (statement.Signer, time.Time)
	}{
		"too old": {refusal.Stale, func(s *site) (statement.Signer, time.Time) {
			return s.agent, now.Add(wire.RegistrationSkew + time.Millisecond)
		}},
		"too new": {refusal.Stale, func(s *site) (statement.Signer, time.Time) {
			return s.agent, now.Add(-wire.RegistrationSkew - time.Millisecond)
		}},
		"other channel": {refusal.WrongChannel, func(s *site) (statement.Signer, time.Time) { s.reg.Channel[0] ^= 1; return s.agent, now }},
		"no channel": {refusal.WrongChannel, func(s *site) (statement.Signer, time.Time) {
			s.reg.Channel, s.channel = key.Hash{}, key.Hash{}
			return s.agent, now
		}},
		"other server":   {refusal.WrongChannel, func(s *site) (statement.Signer, time.Time) { s.reg.Server[0] ^= 1; return s.agent, now }},
		"other team":     {refusal.WrongTeam, func(s *site) (statement.Signer, time.Time) { s.reg.Team[0] ^= 1; return s.agent, now }},
		"other key":      {refusal.BadSignature, func(s *site) (statement.Signer, time.Time) { return other, now }},
		"own key alone":  {refusal.UnknownAgent, func(s *site) (statement.Signer, time.Time) { s.reg.Agent = other.Public(); return other, now }},
		"other hash":     {refusal.UnknownAgent, func(s *site) (statement.Signer, time.Time) { s.reg.Certificate[0] ^= 1; return s.agent, now }},
		"no certificate": {refusal.BadStatement, func(s *site) (statement.Signer, time.Time) { s.message.Certificate = nil; return s.agent, now }},
		"no token":       {refusal.BadStatement, func(s *site) (statement.Signer, time.Time) { s.message.Token = nil; return s.agent, now }},
		"swapped": {refusal.WrongType, func(s *site) (statement.Signer, time.Time) {
			s.message.Token = s.message.Certificate
			return s.agent, now
		}},
	} {
		s := newSite(t)
		by, at := c.edit(s)
		a, err := s.register(by, at)
		wantCode(t, name, err, c.code)
		if !a.Team.IsZero() {
			t.Errorf("%s: a team came with the refusal", name)
		}
	}
}

func TestRegistrationOfAnUnknownTeam(t *testing.T) {
	s := newSite(t)
	var err error
	s.message.Registration, err = statement.Sign(s.agent, s.reg)
	s.check(err)
	_, err = FromRegistration(s.message, func(wire.TeamID) (*roster.State, error) {
		return nil, refusal.New(refusal.NotFound, "no such team")
	}, s.server, s.channel, now)
	wantCode(t, "unknown team", err, refusal.NotFound)
	for _, junk := range []statement.Signed{nil, statement.Signed("{}"), statement.Signed("x"), s.message.Certificate} {
		s.message.Registration = junk
		_, err = FromRegistration(s.message, nil, s.server, s.channel, now)
		wantCode(t, string(junk), err, refusal.BadStatement, refusal.WrongType)
	}
}

// Every byte of what the agent sends counts.
func TestTamperedRegistration(t *testing.T) {
	s := newSite(t)
	_, err := s.register(s.agent, now)
	s.check(err)
	whole := s.message.Registration
	for i := range whole {
		s.message.Registration = append(statement.Signed(nil), whole...)
		s.message.Registration[i] ^= 1
		a, err := FromRegistration(s.message, func(wire.TeamID) (*roster.State, error) { return s.state, nil }, s.server, s.channel, now)
		if err == nil || !a.Team.IsZero() {
			t.Errorf("byte %d may be changed", i)
		}
	}
}
