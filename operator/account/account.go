// Package account is an operator in a team: the keys and pins of a state folder,
// the roster that is verified from the pinned root whenever it is read, and the
// machines whose certificates rest on that roster.
//
// Nothing that a server says is believed beyond what keys reachable from the root
// have signed, and nothing of it is used before it is on the disk (protocol 3.3).
// An Account belongs to one command and one goroutine.
package account

import (
	"context"
	"crypto/sha256"
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

// Account is an operator in a team: the keys and pins of the home folder, the
// roster verified from the pinned root, and a client of the team's server.
// One command uses it, from one goroutine.
type Account struct {
	Home        Home                      // the state folder
	Key         key.Private[key.Operator] // who this operator is
	Member      Membership                // which team
	State       *roster.State             // nil until the first roster was fetched
	Rules       *policy.Rules             // that the roster binds; nil when it binds none or they are not here
	Server      *client.Client            // of the team's server
	Credentials client.Credentials        // of the last login; see SignIn
	Alone       bool                      // the server does not let this key in, and the command goes on without it
}

// renewBefore is how much of a JWT's life must be left for a command to begin
// with it; our choice.
const renewBefore = 60 * time.Second

// ExpiryWarning is from when on every command tells that the roster runs out
// (protocol, preamble).
const ExpiryWarning = 14 * 24 * time.Hour

// Open loads the account without any network.
func Open(home Home) (*Account, error) {
	if err := keyfile.CheckDir(home.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil, home.noTeam()
	} else if err != nil {
		return nil, err
	}
	member, err := home.Membership()
	if err != nil {
		return nil, err
	}
	k, err := keyfile.LoadKey[key.Operator](home.Path(OperatorKeyFile))
	if err != nil {
		return nil, err
	}
	server, err := client.New(member.Server())
	if err != nil {
		return nil, err
	}
	a := &Account{Home: home, Key: k, Member: member, Server: server}
	if err := a.loadRoster(); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// Close gives connections back.
func (a *Account) Close() { a.Server.Close() }

// loadRoster verifies the stored chain again from the pinned root: a file that
// somebody edited is as little believed as a server.
func (a *Account) loadRoster() error {
	raw, err := keyfile.ReadPrivate(a.Home.Path(RosterFile), maxRosterFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	state, err := roster.Load(raw, a.Member.Fingerprint)
	if err != nil {
		return fmt.Errorf("reading %q: %w", a.Home.Path(RosterFile), err)
	}
	text, err := keyfile.ReadPrivate(a.Home.Path(PolicyFile), MaxPolicyFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	a.State = state
	return a.takePolicy(text)
}

// takePolicy parses text if it is the policy that the roster binds. Any other is
// no policy: a file that was damaged or is out of date comes again with the next
// news, and must not keep a command from fetching them.
func (a *Account) takePolicy(text []byte) error {
	a.Rules = nil
	if want := a.State.PolicyHash(); want.IsZero() || sha256.Sum256(text) != want {
		return nil
	}
	rules, err := policy.Parse(text)
	if err != nil {
		return fmt.Errorf("reading the team's policy: %w", err)
	}
	a.Rules = rules
	return nil
}

// Begin makes the account ready for calls to the server.
func (a *Account) Begin(ctx context.Context) error {
	if a.State == nil {
		if err := a.Login(ctx); err != nil {
			return err
		}
	}
	if err := a.SignIn(ctx); err != nil {
		return err
	}
	return a.State.CheckProgram(cli.Version())
}

// SignIn makes sure that there is a JWT with some life left. The roster key is
// the proof, so this never asks anybody anything; after "logout" it refuses.
func (a *Account) SignIn(ctx context.Context) error {
	since, err := a.Home.lastLogout() // before the login is looked at
	if err != nil {
		return err
	}
	err = a.LoadLogin()
	switch {
	case refusal.Of(err) == refusal.NotLoggedIn:
		return err
	case err == nil && time.Until(a.Credentials.Expires) > renewBefore:
		return nil
	}
	return a.login(ctx, since) // which also writes a damaged file anew
}

// LoadLogin takes the saved JWT, which may have expired. Without one the person
// has logged out.
func (a *Account) LoadLogin() error {
	var saved SavedLogin
	err := a.Home.ReadJSON(LoginFile, maxLoginFile, &saved)
	if errors.Is(err, fs.ErrNotExist) {
		return refusal.New(refusal.NotLoggedIn, "you are logged out")
	}
	if err == nil {
		a.Credentials = client.Credentials{Key: a.Key, Team: a.Member.Team, Token: saved.Token, Expires: saved.Expires}
	}
	return err
}

// Login gets a fresh JWT and the newest roster.
func (a *Account) Login(ctx context.Context) error {
	since, err := a.Home.lastLogout()
	if err != nil {
		return err
	}
	return a.login(ctx, since)
}

// login is Login, unless somebody has logged out since then.
func (a *Account) login(ctx context.Context, since wire.Nonce) error {
	if a.Home.Has(FoundingFile) {
		return &cli.Error{Err: refusal.New(refusal.NotLoggedIn, "the team is not founded yet"), Hints: []string{"when the other owners have signed: tucdesk team publish FILE"}}
	}
	cred, reply, err := a.Server.Login(ctx, a.Key, a.Member.Team)
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
	if err := a.keepLogin(cred, since); err != nil {
		return err
	}
	if a.State == nil || a.State.Version() < reply.RosterVersion {
		return a.Refresh(ctx)
	}
	return nil
}

// sameRoster refuses a server that has our version of the roster with other
// content: one of the two was never meant for both of us (protocol 3.3).
func (a *Account) sameRoster(reply wire.LoginReply) error {
	if a.State != nil && a.State.Version() == reply.RosterVersion && a.State.Hash() != reply.RosterHash {
		return refusal.New(refusal.Fork, "the server has another roster version %d than this client has verified", reply.RosterVersion)
	}
	return nil
}

// Refresh fetches the roster updates that are missing here and verifies each. A
// long chain comes in several answers, the last of them with the policy. It ends,
// since every answer but the last has to bring a version that owners have signed.
func (a *Account) Refresh(ctx context.Context) error {
	for {
		var from uint64
		if a.State != nil {
			from = a.State.Version()
		}
		news, err := a.Server.Roster(ctx, a.Credentials, from)
		if err != nil {
			return err
		}
		if err := a.Learn(news); err != nil {
			return err
		}
		if len(news.Updates) == 0 || len(news.Policy) > 0 {
			return nil
		}
	}
}

// Learn applies news, stores it and only then uses it (protocol 3.3).
func (a *Account) Learn(news wire.RosterNews) error {
	state, updates := a.State, news.Updates
	if a.Rules != nil && len(updates) == 0 {
		_, err := a.PolicyText(state, news.Policy) // a server that lies is named, although nothing is taken
		return err                                 // two synced files less to write for most commands
	}
	if state == nil {
		if len(updates) == 0 {
			return refusal.New(refusal.Gap, "the server sent no roster")
		}
		first, err := roster.Found(a.Member.Root, a.Member.Fingerprint, updates[0])
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
	text, err := a.PolicyText(state, news.Policy)
	if err != nil {
		return err
	}
	if err := a.store(state, text); err != nil {
		return err
	}
	a.State = state
	return a.takePolicy(text)
}

// PolicyText is the text which state binds: the server's when it sent one,
// otherwise the stored one.
func (a *Account) PolicyText(state *roster.State, sent wire.Bytes) ([]byte, error) {
	if len(sent) == 0 {
		text, err := keyfile.ReadPrivate(a.Home.Path(PolicyFile), MaxPolicyFile)
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

func (a *Account) store(state *roster.State, text []byte) error {
	if err := keyfile.WriteAtomic(a.Home.Path(PolicyFile), text, 0o600); err != nil {
		return err
	}
	return keyfile.WriteAtomic(a.Home.Path(RosterFile), state.Encode(), 0o600)
}

// Me is the operator's own roster entry.
func (a *Account) Me() (roster.Operator, error) {
	return a.State.Operator(a.Key.ID(), time.Now())
}

// NeedRoster refuses what cannot be done without a roster: this client has entered
// the team string, and no owner has added its key yet. Whoever uses State without
// having logged in asks this first.
func (a *Account) NeedRoster() error {
	if a.State != nil {
		return nil
	}
	return refusal.New(refusal.NotLoggedIn, "this client has not seen the team's roster yet; an owner has to add its key first")
}

// Warnings are what every command tells before it is too late.
func (a *Account) Warnings(now time.Time) []string {
	if a.State == nil {
		return nil
	}
	left := a.State.ExpiresAt().Sub(now)
	switch {
	case left <= 0:
		return []string{"the team's roster has expired; machines refuse new sessions until an owner runs: tucdesk team renew"}
	case left < ExpiryWarning:
		return []string{fmt.Sprintf("the team's roster expires in %s; an owner renews it with: tucdesk team renew", cli.Count(int(left.Hours()/24), "day"))}
	}
	return nil
}

// askOwner tells how this key gets into the roster. The server does not say
// whether it knows the team, the key or neither; that it took this key before, the
// roster that is remembered here does, and then an owner need not try to add it.
func (a *Account) askOwner(cause error) error {
	id := a.Key.ID()
	var gone error
	switch {
	case a.State != nil && a.State.Revoked(id):
		gone = refusal.New(refusal.KeyRevoked, "the key in %q was revoked", a.Home.Dir)
	case a.State != nil && slices.ContainsFunc(a.State.Roster().Operators, func(o roster.Operator) bool { return o.Key.ID() == id }):
		gone = fmt.Errorf("your key, which was in the team's roster when this client last saw it, has been revoked or taken out: %w", cause)
	}
	if gone != nil {
		return &cli.Error{Err: gone, Exit: cli.ExitNotLoggedIn, Hints: []string{cli.NewKey, "an owner then adds the new key as any other"}}
	}
	return &cli.Error{Err: refusal.New(refusal.NotLoggedIn, "your key is new here; an owner has to add it"), Exit: cli.ExitNotLoggedIn, Hints: []string{
		fmt.Sprintf("ask an owner to run:  tucdesk operator add YOUR-EMAIL %s --role ROLE", a.Key.Public()),
		"ROLE is viewer, operator, approver, admin or owner; without --role it is operator, who approves nothing and exports no log",
		fmt.Sprintf("and compare the short code:  %s", id.ShortCode()),
		"then run tucdesk login again",
	}}
}

// ShowPolicy prints the stored text if it is the one in force: a server that
// keeps the newest back must not have an older one shown in its place.
func (a *Account) ShowPolicy(io *cli.IO) error {
	if err := a.NeedRules(); err != nil {
		return err
	}
	text, err := keyfile.ReadPrivate(a.Home.Path(PolicyFile), MaxPolicyFile)
	if err == nil && sha256.Sum256(text) != a.State.PolicyHash() {
		err = refusal.New(refusal.PolicyMismatch, "%q is not the policy in force", a.Home.Path(PolicyFile))
	}
	if err == nil {
		err = io.PrintText(text)
	}
	return err
}

// NeedRules refuses to answer from rules that this client does not have.
func (a *Account) NeedRules() error {
	switch {
	case a.Rules != nil:
		return nil
	case a.State.PolicyHash().IsZero():
		return &cli.Error{Err: refusal.New(refusal.NotFound, "the team has no policy"), Hints: []string{"an owner publishes one: tucdesk policy publish FILE"}}
	}
	return refusal.New(refusal.PolicyMismatch, "the server did not send the policy that the roster binds")
}
