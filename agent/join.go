package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/spool"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/client"
)

// joinLimit bounds the talk with the server while joining; our choice.
const joinLimit = 60 * time.Second

// JoinOptions is what a person may choose.
type JoinOptions struct {
	Name    string // host name in the team; "" is made from the system's host name
	Version string // as in Config
}

// Join makes this machine an agent of the team that joinString names: a new key
// that never leaves the machine, a certificate for it signed with the token's
// key, and one registration at the server, so that a token that is used up or
// expired is known at once. When it fails nothing is left behind, but for the
// key when it is not known whether the server has registered it: the next try
// uses it again instead of a second use of the token.
//
// Refusals: AlreadyJoined, and nothing is changed; BadToken, Expired, TokenUsed,
// NameTaken, BadName; BadFileMode when the folder is open to others.
func Join(ctx context.Context, dir, joinString string, opts JoinOptions) error {
	j, err := roster.ParseJoin(joinString)
	if err != nil {
		return err
	}
	if err := keyfile.CreateDir(dir); err != nil {
		return err
	}
	lock, err := lockState(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if _, err := os.Lstat(filepath.Join(dir, membershipFile)); !errors.Is(err, fs.ErrNotExist) {
		return refusal.New(refusal.AlreadyJoined, "%q belongs to an agent that has joined a team", dir)
	}
	n := &newcomer{dir: dir, join: j, opts: opts}
	ctx, cancel := context.WithTimeout(ctx, joinLimit)
	defer cancel()
	if err := n.run(ctx); err != nil {
		n.rollBack(err)
		return fmt.Errorf("joining: %w", err)
	}
	return nil
}

// newcomer is one attempt to join.
type newcomer struct {
	dir  string
	join roster.Join
	opts JoinOptions

	identity key.Private[key.Agent]
	member   membership
	resumed  bool // the key was made by an attempt that broke off
	asked    bool // the server may have registered the key
}

func (n *newcomer) run(ctx context.Context) error {
	now := time.Now()
	if t := n.join.Token; !now.Before(t.ExpiresAt.Time()) {
		return refusal.New(refusal.Expired, "the join token expired at %s", t.ExpiresAt.Time().Format(time.RFC3339))
	}
	name, err := agentName(n.opts.Name)
	if err != nil {
		return err
	}
	if err := n.makeIdentity(); err != nil {
		return err
	}
	cert, err := roster.SignAgent(n.join.Key, n.join.Token, roster.AgentCert{
		Team: n.join.Root.Team, Agent: n.identity.Public(), Name: name, Tags: n.join.Token.Tags,
		TokenID: n.join.Token.ID, IssuedAt: wire.At(now),
	})
	if err != nil {
		return err
	}
	n.member = membership{Server: n.join.Token.Server, Fingerprint: n.join.Fingerprint, Token: n.join.TokenSigned, Certificate: cert}
	t, text, err := n.register(ctx)
	if err != nil {
		return err
	}
	return n.save(t, text)
}

// makeIdentity makes the key, or takes up the one of an attempt that broke off,
// whose other files are worth nothing.
func (n *newcomer) makeIdentity() (err error) {
	path := filepath.Join(n.dir, identityFile)
	n.identity, err = keyfile.CreateKey[key.Agent](path)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	n.resumed = true
	if n.identity, err = keyfile.LoadKey[key.Agent](path); err != nil {
		return err
	}
	return n.clean()
}

// agentName takes the name that was chosen, or the first part of the host's.
func agentName(chosen string) (string, error) {
	name := chosen
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			return "", fmt.Errorf("finding a name for this host: %v: choose one with --name", err)
		}
		name, _, _ = strings.Cut(strings.ToLower(host), ".")
	}
	if !policy.ValidAgentName(name) {
		return "", refusal.New(refusal.BadName, "name of the host: want 1 to %d of a-z, 0-9, . and -; choose one with --name", roster.MaxName)
	}
	return name, nil
}

// register speaks to the server once and returns what the agent is to believe.
func (n *newcomer) register(ctx context.Context) (*trust, []byte, error) {
	addr := n.member.Server
	cfg := client.Config{URL: addr.URL, Pin: addr.Pin, Access: addr.Access}
	c, reg, err := client.DialControl(ctx, cfg, func(channel key.Hash) (wire.Register, error) {
		n.asked = true
		return register(n.identity, n.member, wire.Registration{
			Team: n.join.Root.Team, Server: addr.Access, Channel: channel, ClientVersion: n.opts.Version,
		}, 0)
	})
	if err != nil {
		return nil, nil, err
	}
	defer c.Close()
	return n.learn(ctx, c, reg.Roster)
}

// learn verifies the chain from the fingerprint in the join string, as far as is
// needed to know this agent, its server and its policy.
func (n *newcomer) learn(ctx context.Context, c *client.Control, news wire.RosterNews) (*trust, []byte, error) {
	var t trust
	for {
		text, err := n.extend(&t, news)
		if err != nil {
			return nil, nil, err
		}
		if t.rules != nil {
			if _, err = ownCertificate(t.roster, n.member, n.identity.ID()); err == nil {
				return &t, text, n.checkServer(t.roster)
			}
		}
		if news, err = nextNews(ctx, c, err); err != nil {
			return nil, nil, err
		}
	}
}

// nextNews waits for more of the roster; why is what is still wrong without it.
func nextNews(ctx context.Context, c *client.Control, why error) (news wire.RosterNews, err error) {
	for {
		f, err := c.Receive(ctx)
		if err != nil && why != nil {
			return news, why
		}
		if err != nil {
			return news, refusal.New(refusal.PolicyMismatch, "the server does not hand out the team's policy: %v", err)
		}
		if f.Type == wire.FrameRoster {
			return news, json.Unmarshal(f.Body, &news)
		}
	}
}

func (n *newcomer) extend(t *trust, news wire.RosterNews) (text []byte, err error) {
	updates := news.Updates
	if t.roster == nil {
		if len(updates) == 0 {
			return nil, refusal.New(refusal.BadChain, "the server hands out no roster")
		}
		if t.roster, err = roster.Found(n.join.RootSigned, n.join.Fingerprint, updates[0]); err != nil {
			return nil, err
		}
		updates = updates[1:]
	}
	for _, u := range updates {
		if recent(t.roster, u) {
			continue
		}
		next, err := t.roster.Apply(u, time.Now())
		if err != nil {
			return nil, err
		}
		t.roster = next
	}
	if t.rules == nil || t.rules.Hash() != t.roster.PolicyHash() {
		t.rules = parsePolicy(news.Policy, t.roster.PolicyHash())
	}
	return news.Policy, nil
}

// checkServer demands that the owners know the server that the token names.
func (n *newcomer) checkServer(st *roster.State) error {
	s, err := st.Server(n.member.Server.Access)
	if err != nil {
		return fmt.Errorf("the server of the join token is not in the team's roster: %w", err)
	}
	if s.Keys.TLS != n.member.Server.Pin {
		return refusal.New(refusal.PinMismatch, "the join token names another TLS key than the team's roster")
	}
	return nil
}

// save writes everything, agent.json last: it says that joining is complete.
func (n *newcomer) save(t *trust, text []byte) error {
	if err := t.save(n.dir, text); err != nil {
		return err
	}
	ledger, err := approval.CreateLedger(filepath.Join(n.dir, ledgerFile))
	if err != nil {
		return err
	}
	if err := ledger.Close(); err != nil {
		return fmt.Errorf("closing the ledger: %v", err)
	}
	if err := spool.Create(n.dir, n.identity, t.roster.Team()); err != nil {
		return err
	}
	if err := writeClock(n.dir, t.roster.IssuedAt()); err != nil {
		return err
	}
	data, err := json.Marshal(n.member)
	if err != nil {
		return fmt.Errorf("encoding %q: %v", membershipFile, err)
	}
	return keyfile.WriteNew(filepath.Join(n.dir, membershipFile), data)
}

// rollBack removes what this attempt wrote.
func (n *newcomer) rollBack(why error) {
	if n.clean() != nil || n.resumed || n.asked && refusal.Of(why) == refusal.Unreachable {
		return
	}
	_ = os.Remove(filepath.Join(n.dir, identityFile))
	_ = os.Remove(filepath.Join(n.dir, lockFile))
	_ = os.Remove(n.dir) // fails when something of others is in it
}

// clean removes all state but the key.
func (n *newcomer) clean() error {
	errs := []error{dropOldPolicies(n.dir, key.Hash{})}
	for _, name := range []string{chainFile, ledgerFile, spoolFile, clockFile, membershipFile} {
		if err := os.Remove(filepath.Join(n.dir, name)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
