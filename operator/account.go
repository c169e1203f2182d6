package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/client"
)

// account is an operator in a team: the keys and pins of the home folder, the
// roster verified from the pinned root, and a client of the team's server.
// One command uses it, from one goroutine.
type account struct {
	home   Home
	key    key.Private[key.Operator]
	member membership
	state  *roster.State // nil until the first roster was fetched
	rules  *policy.Rules // that the roster binds; nil when it binds none
	server *client.Client
	cred   client.Credentials
}

// renewBefore is how much of a JWT's life must be left for a command to begin
// with it; our choice.
const renewBefore = 60 * time.Second

// expiryWarning is from when on every command tells that the roster runs out
// (protocol, preamble).
const expiryWarning = 14 * 24 * time.Hour

// open loads the account without any network.
func open(home Home) (*account, error) {
	if err := keyfile.CheckDir(home.dir); errors.Is(err, fs.ErrNotExist) {
		return nil, refusal.New(refusal.NotLoggedIn, "no team in %q", home.dir)
	} else if err != nil {
		return nil, err
	}
	member, err := home.membership()
	if err != nil {
		return nil, err
	}
	k, err := keyfile.LoadKey[key.Operator](home.path(operatorKeyFile))
	if err != nil {
		return nil, err
	}
	server, err := client.New(member.server())
	if err != nil {
		return nil, err
	}
	a := &account{home: home, key: k, member: member, server: server}
	return a, a.loadRoster()
}

// close gives connections back.
func (a *account) close() { a.server.Close() }

// loadRoster verifies the stored chain again from the pinned root: a file that
// somebody edited is as little believed as a server.
func (a *account) loadRoster() error {
	raw, err := keyfile.ReadPrivate(a.home.path(rosterFile), maxRosterFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	state, err := roster.Load(raw, a.member.Fingerprint)
	if err != nil {
		return fmt.Errorf("reading %q: %w", a.home.path(rosterFile), err)
	}
	text, err := keyfile.ReadPrivate(a.home.path(policyFile), maxPolicyFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	a.state = state
	return a.takePolicy(text)
}

// takePolicy parses the policy text if it is the one that the roster binds.
func (a *account) takePolicy(text []byte) error {
	a.rules = nil
	want := a.state.Roster().PolicyHash
	if want.IsZero() || len(text) == 0 {
		return nil
	}
	rules, err := policy.Parse(text)
	if err != nil {
		return fmt.Errorf("reading the team's policy: %w", err)
	}
	if rules.Hash() == want {
		a.rules = rules
	}
	return nil
}

// signIn makes sure that there is a JWT with some life left. The roster key is
// the proof, so this never asks anybody anything; after "logout" it refuses.
func (a *account) signIn(ctx context.Context) error {
	var saved savedLogin
	err := a.home.readJSON(loginFile, maxLoginFile, &saved)
	if errors.Is(err, fs.ErrNotExist) {
		return refusal.New(refusal.NotLoggedIn, "you are logged out")
	}
	if err == nil && time.Until(saved.Expires) > renewBefore {
		a.cred = client.Credentials{Key: a.key, Team: a.member.Team, Token: saved.Token, Expires: saved.Expires}
		return nil
	}
	return a.login(ctx)
}

// login gets a fresh JWT and the newest roster.
func (a *account) login(ctx context.Context) error {
	cred, reply, err := a.server.Login(ctx, a.key, a.member.Team)
	switch refusal.Of(err) {
	case refusal.NotLoggedIn, refusal.UnknownKey, refusal.UnknownKid:
		return a.askOwner(err)
	}
	if err != nil {
		return err
	}
	a.cred = cred
	if err := a.home.writeJSON(loginFile, savedLogin{Token: cred.Token, Expires: cred.Expires}); err != nil {
		return err
	}
	if a.state == nil || a.state.Version() < reply.RosterVersion {
		return a.refresh(ctx)
	}
	return nil
}

// refresh fetches the roster updates that are missing here and verifies each.
func (a *account) refresh(ctx context.Context) error {
	var from uint64
	if a.state != nil {
		from = a.state.Version()
	}
	news, err := a.server.Roster(ctx, a.cred, from)
	if err != nil {
		return err
	}
	return a.learn(news)
}

// learn applies news, stores it and only then uses it (protocol 3.3).
func (a *account) learn(news wire.RosterNews) error {
	state, updates := a.state, news.Updates
	if state == nil {
		if len(updates) == 0 {
			return refusal.New(refusal.Gap, "the server sent no roster")
		}
		first, err := roster.Found(a.member.Root, a.member.Fingerprint, updates[0])
		if err != nil {
			return err
		}
		state, updates = first, updates[1:]
	}
	for _, u := range updates {
		next, err := state.Apply(u, time.Now())
		if err != nil {
			return err
		}
		state = next
	}
	text, err := a.policyText(state, news.Policy)
	if err != nil {
		return err
	}
	if err := a.store(state, text); err != nil {
		return err
	}
	a.state = state
	return a.takePolicy(text)
}

// policyText is the text which state binds: the server's when it sent one,
// otherwise the stored one.
func (a *account) policyText(state *roster.State, sent wire.Bytes) ([]byte, error) {
	if len(sent) == 0 {
		text, err := keyfile.ReadPrivate(a.home.path(policyFile), maxPolicyFile)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return text, err
	}
	rules, err := policy.Parse(sent)
	if err != nil {
		return nil, fmt.Errorf("reading the team's policy: %w", err)
	}
	if rules.Hash() != state.Roster().PolicyHash {
		return nil, refusal.New(refusal.PolicyMismatch, "the server's policy text is not the one that the roster binds")
	}
	return sent, nil
}

func (a *account) store(state *roster.State, text []byte) error {
	if err := keyfile.WriteAtomic(a.home.path(policyFile), text, 0o600); err != nil {
		return err
	}
	return keyfile.WriteAtomic(a.home.path(rosterFile), state.Encode(), 0o600)
}

// me is the operator's own roster entry.
func (a *account) me() (roster.Operator, error) {
	return a.state.Operator(a.key.ID(), time.Now())
}

// warnings are what every command tells before it is too late.
func (a *account) warnings(now time.Time) []string {
	if a.state == nil {
		return nil
	}
	left := a.state.Roster().ExpiresAt.Time().Sub(now)
	switch {
	case left <= 0:
		return []string{"the team's roster has expired; machines refuse new sessions until an owner runs: tucdesk team renew"}
	case left < expiryWarning:
		return []string{fmt.Sprintf("the team's roster expires in %d days; an owner renews it with: tucdesk team renew", int(left.Hours()/24))}
	}
	return nil
}

// knownAgents reads the machines as last seen; a damaged cache is no cache.
func (a *account) knownAgents() []wire.AgentInfo {
	var list []wire.AgentInfo
	raw, err := keyfile.ReadPrivate(a.home.path(agentsFile), maxAgentsFile)
	if err != nil || json.Unmarshal(raw, &list) != nil {
		return nil
	}
	return list
}

// fetchAgents asks for all machines and remembers them.
func (a *account) fetchAgents(ctx context.Context) ([]wire.AgentInfo, error) {
	var all []wire.AgentInfo
	for after := ""; ; {
		page, err := a.server.Agents(ctx, a.cred, after)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Agents...)
		if page.Next == "" {
			return all, a.home.writeJSON(agentsFile, all)
		}
		if page.Next == after || len(page.Agents) == 0 {
			return nil, refusal.New(refusal.ProtocolError, "the server's list of machines does not end")
		}
		after = page.Next
	}
}

// machine is a host whose certificate chain was verified here.
type machine struct {
	cert roster.AgentCert
	info wire.AgentInfo
}

// verified keeps the machines whose certificates hold; the names of the others
// are the server's word alone and must not be offered to anybody.
func (a *account) verified(list []wire.AgentInfo, now time.Time) (good []machine, bad int) {
	for _, info := range list {
		cert, err := a.state.VerifyAgent(info.Token, info.Certificate, now)
		if err != nil {
			bad++
			continue
		}
		good = append(good, machine{cert: cert, info: info})
	}
	return good, bad
}

// find looks a host up by name, first among the machines seen before, then at
// the server. Two certificates of one name are refused: a server that may
// choose between them chooses the machine (protocol 3.2).
func (a *account) find(ctx context.Context, name string) (machine, error) {
	if m, err := a.pick(a.knownAgents(), name); err == nil {
		return m, nil
	}
	list, err := a.fetchAgents(ctx)
	if err != nil {
		return machine{}, err
	}
	return a.pick(list, name)
}

func (a *account) pick(list []wire.AgentInfo, name string) (machine, error) {
	var found []machine
	good, _ := a.verified(list, time.Now())
	for _, m := range good {
		if m.cert.Name == name || m.cert.Agent.ID().String() == name {
			found = append(found, m)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return machine{}, refusal.New(refusal.NotFound, "no machine %q in this team", name)
	}
	return machine{}, refusal.New(refusal.NameTaken, "%d machines are called %q; use the key id that tucdesk ls --json shows", len(found), name)
}
