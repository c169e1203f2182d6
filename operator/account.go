package operator

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
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
	alone  bool // the server does not let this key in any more; see reach
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
	if err := a.loadRoster(); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
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

// takePolicy parses text if it is the policy that the roster binds. Any other is
// no policy: a file that was damaged or is out of date comes again with the next
// news, and must not keep a command from fetching them.
func (a *account) takePolicy(text []byte) error {
	a.rules = nil
	if want := a.state.PolicyHash(); want.IsZero() || sha256.Sum256(text) != want {
		return nil
	}
	rules, err := policy.Parse(text)
	if err != nil {
		return fmt.Errorf("reading the team's policy: %w", err)
	}
	a.rules = rules
	return nil
}

// begin makes the account ready for calls to the server.
func (a *account) begin(ctx context.Context) error {
	if a.state == nil {
		if err := a.login(ctx); err != nil {
			return err
		}
	}
	if err := a.signIn(ctx); err != nil {
		return err
	}
	return a.state.CheckProgram(cli.Version())
}

// signIn makes sure that there is a JWT with some life left. The roster key is
// the proof, so this never asks anybody anything; after "logout" it refuses.
func (a *account) signIn(ctx context.Context) error {
	err := a.loadLogin()
	switch {
	case refusal.Of(err) == refusal.NotLoggedIn:
		return err
	case err == nil && time.Until(a.cred.Expires) > renewBefore:
		return nil
	}
	return a.login(ctx) // which also writes a damaged file anew
}

// loadLogin takes the saved JWT, which may have expired. Without one the person
// has logged out.
func (a *account) loadLogin() error {
	var saved savedLogin
	err := a.home.readJSON(loginFile, maxLoginFile, &saved)
	if errors.Is(err, fs.ErrNotExist) {
		return refusal.New(refusal.NotLoggedIn, "you are logged out")
	}
	if err == nil {
		a.cred = client.Credentials{Key: a.key, Team: a.member.Team, Token: saved.Token, Expires: saved.Expires}
	}
	return err
}

// login gets a fresh JWT and the newest roster.
func (a *account) login(ctx context.Context) error {
	if a.home.has(foundingFile) {
		return &cli.Error{Err: refusal.New(refusal.NotLoggedIn, "the team is not founded yet"), Hints: []string{"when the other owners have signed: tucdesk team publish FILE"}}
	}
	cred, reply, err := a.server.Login(ctx, a.key, a.member.Team)
	switch refusal.Of(err) {
	case refusal.NotLoggedIn, refusal.UnknownKey, refusal.UnknownKid:
		return a.askOwner(err)
	}
	if err == nil {
		err = a.sameRoster(reply)
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

// sameRoster refuses a server that has our version of the roster with other
// content: one of the two was never meant for both of us (protocol 3.3).
func (a *account) sameRoster(reply wire.LoginReply) error {
	if a.state != nil && a.state.Version() == reply.RosterVersion && a.state.Hash() != reply.RosterHash {
		return refusal.New(refusal.Fork, "the server has another roster version %d than this client has verified", reply.RosterVersion)
	}
	return nil
}

// refresh fetches the roster updates that are missing here and verifies each. A
// long chain comes in several answers, the last of them with the policy. It ends,
// since every answer but the last has to bring a version that owners have signed.
func (a *account) refresh(ctx context.Context) error {
	for {
		var from uint64
		if a.state != nil {
			from = a.state.Version()
		}
		news, err := a.server.Roster(ctx, a.cred, from)
		if err != nil {
			return err
		}
		if err := a.learn(news); err != nil {
			return err
		}
		if len(news.Updates) == 0 || len(news.Policy) > 0 {
			return nil
		}
	}
}

// learn applies news, stores it and only then uses it (protocol 3.3).
func (a *account) learn(news wire.RosterNews) error {
	state, updates := a.state, news.Updates
	if a.rules != nil && len(updates) == 0 {
		_, err := a.policyText(state, news.Policy) // a server that lies is named, although nothing is taken
		return err                                 // two synced files less to write for most commands
	}
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
	if rules.Hash() != state.PolicyHash() {
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
	left := a.state.ExpiresAt().Sub(now)
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

// claim is what an unverified certificate says of itself. It only chooses which
// certificates are worth two signature checks each: to verify all of 10,000
// machines would cost seconds before every session.
type claim struct {
	Name  string                `json:"name"`
	Agent key.Public[key.Agent] `json:"agent"`
}

func (c claim) is(name string) bool { return c.Name == name || c.Agent.ID().String() == name }

func claiming(list []wire.AgentInfo, wanted func(claim) bool) (some []wire.AgentInfo) {
	for _, info := range list {
		var envelope struct {
			Payload wire.Bytes `json:"payload"`
		}
		var c claim
		if json.Unmarshal(info.Certificate, &envelope) == nil && json.Unmarshal(envelope.Payload, &c) == nil && wanted(c) {
			some = append(some, info)
		}
	}
	return some
}

func (a *account) pick(list []wire.AgentInfo, name string) (machine, error) {
	found, _ := a.verified(claiming(list, func(c claim) bool { return c.is(name) }), time.Now())
	// Judged again by the verified certificate: a claim proves nothing.
	found = slices.DeleteFunc(found, func(m machine) bool { return !claim{m.cert.Name, m.cert.Agent}.is(name) })
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return machine{}, &cli.Error{Err: refusal.New(refusal.NotFound, "no machine %q in this team", name), Hints: []string{"tucdesk ls"}, Exit: cli.ExitTransport}
	}
	return machine{}, refusal.New(refusal.NameTaken, "%d machines are called %q; use the key id that tucdesk ls --json shows", len(found), name)
}
