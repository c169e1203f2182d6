package roster_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"slices"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// token is a join token of m that an enroller may sign.
func (m *team) token() roster.Token {
	return roster.Token{
		ID: wire.Nonce{7}, Team: m.root.Team, Fingerprint: m.fingerprint, Server: server(m.t, 1).Address(),
		Tags: []string{"prod"}, IssuedAt: wire.At(now), ExpiresAt: wire.At(now.Add(time.Hour)), MaxUses: 1,
		Key: public[key.Token](m.t, 1),
	}
}

func cert(t tb, n int) roster.AgentCert {
	return roster.AgentCert{
		Team: wire.TeamID{0, 0xaa}, Agent: public[key.Agent](t, n), Name: "db-1", Tags: []string{"prod"},
		TokenID: wire.Nonce{7}, IssuedAt: wire.At(now.Add(time.Minute)),
	}
}

func (m *team) signedToken(t roster.Token) statement.Signed {
	m.t.Helper()
	return forgeSigned(m.t, private[key.Enroller](m.t, 1), t)
}

func (m *team) signedCert(c roster.AgentCert) statement.Signed {
	m.t.Helper()
	return forgeSigned(m.t, private[key.Token](m.t, 1), c)
}

func TestAgentJoinsUnderAToken(t *testing.T) {
	m := found(t, 0, 1, 1)
	for what, sign := range map[string]func() (statement.Signed, error){
		"enroller": func() (statement.Signed, error) { return roster.SignToken(private[key.Enroller](t, 1), m.token()) },
		"owner":    func() (statement.Signed, error) { return roster.SignToken(m.owners[0], m.token()) },
	} {
		token, err := sign()
		if err != nil {
			t.Fatal(what, err)
		}
		got, err := m.state.VerifyToken(token, now)
		if err != nil || got.ID != m.token().ID {
			t.Fatalf("%s: %v", what, err)
		}
		signed, err := roster.SignAgent(private[key.Token](t, 1), got, cert(t, 1))
		if err != nil {
			t.Fatal(what, err)
		}
		c, err := m.state.VerifyAgent(token, signed, now)
		if err != nil || c.Name != "db-1" || !slices.Equal(c.Tags, []string{"prod"}) {
			t.Errorf("%s: %+v, %v", what, c, err)
		}
	}
}

func TestG9Token(t *testing.T) {
	m, other := found(t, 0, 1, 1), found(t, 10, 1, 1)
	enroller := private[key.Enroller](t, 1)
	for _, c := range []struct {
		what string
		by   statement.Signer
		edit func(*roster.Token)
		want refusal.Code
	}{
		{"expired", enroller, func(k *roster.Token) { k.IssuedAt, k.ExpiresAt = wire.At(now)-2000, wire.At(now) }, refusal.Expired},
		{"issued in the future", enroller, func(k *roster.Token) { k.IssuedAt, k.ExpiresAt = wire.At(now)+61_000, wire.At(now)+62_000 }, refusal.NotYetValid},
		{"ends before it begins", enroller, func(k *roster.Token) { k.ExpiresAt = k.IssuedAt }, refusal.BadTime},
		{"lives longer than any", m.owners[0], func(k *roster.Token) { k.ExpiresAt = k.IssuedAt + 1<<40 }, refusal.BadTime},
		{"lives longer than its signer may give", enroller, func(k *roster.Token) { k.ExpiresAt = k.IssuedAt + 3600_001 }, refusal.WiderThanAllowed},
		{"wider tags than its signer may give", enroller, func(k *roster.Token) { k.Tags = []string{"prod", "db"} }, refusal.WiderThanAllowed},
		{"tag as prefix of an allowed one", enroller, func(k *roster.Token) { k.Tags = []string{"pro"} }, refusal.WiderThanAllowed},
		{"other team", enroller, func(k *roster.Token) { k.Team = other.root.Team }, refusal.WrongTeam},
		{"other team's root", enroller, func(k *roster.Token) { k.Fingerprint = other.fingerprint }, refusal.WrongTeam},
		{"other team's owner", other.owners[0], func(*roster.Token) {}, refusal.UnknownKey},
		{"unknown enroller", private[key.Enroller](t, 2), func(*roster.Token) {}, refusal.UnknownKey},
		{"operator as enroller", private[key.Operator](t, carol), func(*roster.Token) {}, refusal.WrongRole},
		{"server as enroller", private[key.Access](t, 1), func(*roster.Token) {}, refusal.WrongRole},
		{"no uses", enroller, func(k *roster.Token) { k.MaxUses = 0 }, refusal.BadStatement},
		{"endless uses", enroller, func(k *roster.Token) { k.MaxUses = roster.MaxUses + 1 }, refusal.BadStatement},
		{"no id", enroller, func(k *roster.Token) { k.ID = wire.Nonce{} }, refusal.BadStatement},
		{"tag with markup", enroller, func(k *roster.Token) { k.Tags = []string{"<b>"} }, refusal.BadName},
		{"no server", enroller, func(k *roster.Token) { k.Server = roster.Address{} }, refusal.BadName},
		{"no pin", enroller, func(k *roster.Token) { k.Server.Pin = key.Hash{} }, refusal.BadStatement},
	} {
		token := m.token()
		c.edit(&token)
		_, err := m.state.VerifyToken(forgeSigned(t, c.by, token), now)
		wantCode(t, c.what, err, c.want)
	}
	good := m.signedToken(m.token())
	for _, n := range []int{0, 1, len(good) / 2, len(good) - 1} {
		_, err := m.state.VerifyToken(good[:n], now)
		wantCode(t, "truncated", err, refusal.BadStatement)
	}
	_, err := m.state.VerifyToken(m.signedCert(cert(t, 1)), now)
	wantCode(t, "a certificate as token", err, refusal.WrongType)
}

func TestG10Certificate(t *testing.T) {
	m := found(t, 0, 1, 1)
	token := m.signedToken(m.token())
	key1 := private[key.Token](t, 1)
	tokenAsAgent, err := key.PublicFromBytes[key.Agent](key1.Public().Bytes())
	if err != nil {
		t.Fatal(err)
	}
	ownerAsAgent, _ := key.PublicFromBytes[key.Agent](m.owners[0].Public().Bytes())
	for _, c := range []struct {
		what string
		by   statement.Signer
		edit func(*roster.AgentCert)
		want refusal.Code
	}{
		{"tags outside the token", key1, func(c *roster.AgentCert) { c.Tags = []string{"prod", "web"} }, refusal.WiderThanAllowed},
		{"another token's id", key1, func(c *roster.AgentCert) { c.TokenID[0]++ }, refusal.WrongTeam},
		{"another team", key1, func(c *roster.AgentCert) { c.Team[0]++ }, refusal.WrongTeam},
		{"made after the token ended", key1, func(c *roster.AgentCert) { c.IssuedAt = wire.At(now.Add(62 * time.Minute)) }, refusal.WiderThanAllowed},
		{"made before the token", key1, func(c *roster.AgentCert) { c.IssuedAt = wire.At(now.Add(-2 * time.Minute)) }, refusal.WiderThanAllowed},
		{"ended", key1, func(c *roster.AgentCert) { c.NotAfter = wire.At(now.Add(2 * time.Hour)) }, refusal.Expired},
		{"ends before it begins", key1, func(c *roster.AgentCert) { c.NotAfter = c.IssuedAt }, refusal.BadTime},
		{"name with markup", key1, func(c *roster.AgentCert) { c.Name = "<img>" }, refusal.BadName},
		{"by another token", private[key.Token](t, 2), func(*roster.AgentCert) {}, refusal.UnknownKey},
		{"by the enroller", private[key.Enroller](t, 1), func(*roster.AgentCert) {}, refusal.UnknownKey},
		{"by the agent itself", private[key.Agent](t, 1), func(*roster.AgentCert) {}, refusal.UnknownKey},
		{"token's key as the agent's", key1, func(c *roster.AgentCert) { c.Agent = tokenAsAgent }, refusal.WrongRole},
		{"owner's key as the agent's", key1, func(c *roster.AgentCert) { c.Agent = ownerAsAgent }, refusal.WrongRole},
	} {
		crt := cert(t, 1)
		c.edit(&crt)
		_, err := m.state.VerifyAgent(token, forgeSigned(t, c.by, crt), now.Add(2*time.Hour))
		wantCode(t, c.what, err, c.want)
	}
	tk := m.token()
	wide := cert(t, 1)
	wide.Tags = []string{"web"}
	_, err = roster.SignAgent(key1, tk, wide)
	wantCode(t, "the host signs wider tags itself", err, refusal.WiderThanAllowed)
	_, err = roster.SignAgent(private[key.Token](t, 2), tk, cert(t, 1))
	wantCode(t, "the host signs with another key", err, refusal.WrongRole)
}

func TestCertificateOutlivesItsToken(t *testing.T) {
	m := found(t, 0, 1, 1)
	token, crt := m.signedToken(m.token()), m.signedCert(cert(t, 1))
	later := now.Add(30 * 24 * time.Hour)
	_, err := m.state.VerifyToken(token, later)
	wantCode(t, "joining a month later", err, refusal.Expired)
	if _, err := m.state.VerifyAgent(token, crt, later); err != nil {
		t.Errorf("host that joined in time: %v", err)
	}
}

func TestRevokingAnyLinkEndsTheCertificate(t *testing.T) {
	for what, id := range map[string]func(tb) key.ID{
		"agent":    func(t tb) key.ID { return public[key.Agent](t, 1).ID() },
		"token":    func(t tb) key.ID { return public[key.Token](t, 1).ID() },
		"enroller": func(t tb) key.ID { return public[key.Enroller](t, 1).ID() },
	} {
		m := found(t, 0, 1, 1)
		token, crt := m.signedToken(m.token()), m.signedCert(cert(t, 1))
		m.grow(func(r *roster.Roster) { renew(r); r.Revoke(id(t)) })
		_, err := m.state.VerifyAgent(token, crt, now)
		wantCode(t, what, err, refusal.KeyRevoked)
	}
}

// Somebody who enrolled hosts leaves: the hosts stay, but nothing new comes.
func TestEnrollerWhoLeftKeepsHostsButEnrolsNone(t *testing.T) {
	m := found(t, 0, 2, 1)
	token, crt := m.signedToken(m.token()), m.signedCert(cert(t, 1))
	m.grow(func(r *roster.Roster) { r.Renew(now.Add(10*time.Minute), time.Hour); r.Enrollers = nil })
	if _, err := m.state.VerifyAgent(token, crt, now.Add(time.Hour)); err != nil {
		t.Errorf("host that joined before: %v", err)
	}
	_, err := m.state.VerifyToken(token, now.Add(11*time.Minute))
	wantCode(t, "joining under the old token", err, refusal.UnknownKey)
	late := m.token()
	late.IssuedAt = wire.At(now.Add(10*time.Minute)) + 1
	_, err = m.state.VerifyAgent(m.signedToken(late), crt, now)
	wantCode(t, "token of after the departure", err, refusal.UnknownKey)
	wide := m.token()
	wide.Tags = []string{"db"}
	_, err = m.state.VerifyAgent(m.signedToken(wide), crt, now)
	wantCode(t, "back-dated token with other tags", err, refusal.WiderThanAllowed)
	// The limits follow an enroller who comes back.
	m.grow(func(r *roster.Roster) {
		r.Renew(now.Add(20*time.Minute), time.Hour)
		r.Enrollers = []roster.Enroller{{Key: public[key.Enroller](t, 1), Tags: []string{"web"}, MaxLifetime: 3600}}
	})
	_, err = m.state.VerifyToken(token, now.Add(21*time.Minute))
	wantCode(t, "back with other tags", err, refusal.WiderThanAllowed)
}

func TestB5ServerAnswersWithItsOwnKey(t *testing.T) {
	m := found(t, 0, 1, 1)
	token, crt := m.signedToken(m.token()), m.signedCert(cert(t, 1))
	c, err := m.state.VerifyAgent(token, crt, now)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Key(public[key.Agent](t, 2).ID())
	wantCode(t, "the answering key", err, refusal.UnknownAgent)
	_, err = c.FindAgent(public[key.Agent](t, 2).ID())
	wantCode(t, "a statement of it", err, refusal.UnknownAgent)
	_, err = roster.AgentCert{}.Key(key.ID{})
	wantCode(t, "no certificate at all", err, refusal.UnknownAgent)
	if k, err := c.Key(public[key.Agent](t, 1).ID()); err != nil || k != public[key.Agent](t, 1) {
		t.Errorf("certified key: %v", err)
	}
	if v, err := c.FindAgent(c.Agent.ID()); err != nil || v.ID() != c.Agent.ID() {
		t.Errorf("finding the certified key: %v", err)
	}
	// The server makes a chain of its own for its key: the token is the gap.
	forged := m.token()
	forged.Key = public[key.Token](t, 66)
	fake := cert(t, 2)
	_, err = m.state.VerifyAgent(forgeSigned(t, private[key.Enroller](t, 66), forged), forgeSigned(t, private[key.Token](t, 66), fake), now)
	wantCode(t, "a chain of the server's own", err, refusal.UnknownKey)
}

// rawCert is AgentCert with a key that the key type would not take.
type rawCert struct {
	Team     wire.TeamID `json:"team"`
	Agent    string      `json:"agent"`
	Name     string      `json:"name"`
	Tags     []string    `json:"tags"`
	TokenID  wire.Nonce  `json:"tokenId"`
	IssuedAt wire.Millis `json:"iat"`
	NotAfter wire.Millis `json:"notAfter"`
}

func (rawCert) Kind() statement.Kind { return roster.AgentCert{}.Kind() }

func TestB14EnrolmentOfAWeakKey(t *testing.T) {
	m := found(t, 0, 1, 1)
	token, good := m.signedToken(m.token()), cert(t, 1)
	enrol := func(raw []byte) error {
		c := rawCert{good.Team, "tucdesk-agent-pub:" + base64.RawURLEncoding.EncodeToString(raw), good.Name, good.Tags, good.TokenID, good.IssuedAt, 0}
		_, err := m.state.VerifyAgent(token, forgeSigned(t, private[key.Token](t, 1), c), now)
		return err
	}
	if err := enrol(good.Agent.Bytes()); err != nil {
		t.Fatalf("the raw form of a good certificate: %v", err)
	}
	for what, raw := range map[string][]byte{
		"zero":           make([]byte, ed25519.PublicKeySize),
		"neutral":        append([]byte{1}, make([]byte, 31)...),
		"not canonical":  bytes.Repeat([]byte{0xff}, 32),
		"too short":      good.Agent.Bytes()[:31],
		"one byte added": append(good.Agent.Bytes(), 0),
	} {
		// The envelope turns what a field says into its own refusal.
		wantCode(t, what, enrol(raw), refusal.WeakKey, refusal.BadStatement)
	}
}

func TestSetupStatement(t *testing.T) {
	m := found(t, 0, 2, 1)
	info := setupInfo(t)
	id := info.Keys.Access.ID()
	signed, err := roster.SignSetup(m.owners[0], m.state, info, now)
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.state.VerifySetup(signed, id, info.Code, now)
	if err != nil || p.Root != m.fingerprint {
		t.Fatalf("%+v, %v", p, err)
	}
	other := found(t, 10, 1, 1)
	foreign, _ := roster.SignSetup(other.owners[0], other.state, info, now)
	otherTeam := p
	otherTeam.Team = other.root.Team
	verify := func(s statement.Signed, server key.ID, code wire.Bytes, at time.Time) error {
		_, err := m.state.VerifySetup(s, server, code, at)
		return err
	}
	wantCode(t, "another server", verify(signed, key.ID{1}, info.Code, now), refusal.Forbidden)
	wantCode(t, "another code", verify(signed, id, bytes.Repeat([]byte{1}, 16), now), refusal.Forbidden)
	wantCode(t, "no code", verify(signed, id, nil, now), refusal.Forbidden)
	wantCode(t, "too old", verify(signed, id, info.Code, now.Add(roster.SetupLifetime)), refusal.Expired)
	wantCode(t, "from the future", verify(signed, id, info.Code, now.Add(-2*time.Minute)), refusal.BadTime)
	wantCode(t, "another team's owner", verify(foreign, id, info.Code, now), refusal.UnknownKey)
	wantCode(t, "another team", verify(forgeSigned(t, m.owners[0], otherTeam), id, info.Code, now), refusal.WrongTeam)
	wantCode(t, "an operator", verify(forgeSigned(t, private[key.Operator](t, carol), p), id, info.Code, now), refusal.WrongRole)
	wantCode(t, "another statement", verify(m.signed, id, info.Code, now), refusal.WrongType)
}
