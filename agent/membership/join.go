package membership

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/agent/trust"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/spool"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/client"
)

// joinLimit bounds the talk with the server of one attempt; our choice.
const joinLimit = 60 * time.Second

// LedgerFile is the agent's record of used approvals (package approval).
const LedgerFile = "ledger"

const spoolFile = "audit.spool" // named by package audit

// Options is what a person may choose.
type Options struct {
	Name    string // host name in the team; "" is made from the system's host name
	Version string // what this program calls itself at the server
}

// ErrLocked is that of Lock while another agent runs on the folder.
var ErrLocked = errors.New("another agent runs there")

// Join makes this machine an agent of the team that joinString names: a new key
// that never leaves the machine, a certificate for it signed with the token's
// key, and one registration at the server, so that a token that is used up or
// expired is known at once. An attempt that broke off goes on where it was, with
// the same token.
//
// When it is sure that the server knows nothing of this machine, an error leaves
// nothing behind. Refusals: AlreadyJoined, also for an attempt that was begun with
// another token or name, and nothing is changed; BadToken, Expired, TokenUsed,
// NameTaken, BadName; BadFileMode when the folder is open to others.
func Join(ctx context.Context, dir, joinString string, opts Options) error {
	j, err := roster.ParseJoin(joinString)
	if err != nil {
		return err
	}
	if err := keyfile.CreateDir(dir); err != nil {
		return err
	}
	unlock, err := Lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	n := &newcomer{dir: dir, opts: opts}
	if err := n.begin(j); err != nil {
		return err
	}
	return n.attempt(ctx)
}

// Finish goes on with an attempt to join that broke off, once. Where none was
// begun it does nothing. When the server turns out not to know this machine and
// to want none, nothing of the attempt is left, and settled is true; else the
// next try may succeed.
func Finish(ctx context.Context, dir string, opts Options) (settled bool, err error) {
	if _, st, err := look(dir); err != nil || st != begun {
		return true, err
	}
	unlock, err := Lock(dir)
	if err != nil {
		return true, err
	}
	defer unlock()
	n := &newcomer{dir: dir, opts: opts}
	if err := n.takeUp(); err != nil {
		return true, err
	}
	err = n.attempt(ctx)
	return err == nil || !n.taken && unknownThere(refusal.Of(err)), err
}

// newcomer is one attempt to join.
type newcomer struct {
	dir  string
	opts Options

	identity key.Private[key.Agent]
	member   Membership // with its root
	trust    *trust.Trust
	policy   []byte
	asked    bool // the server may have registered the key
	taken    bool // it has
}

// begin takes up what an attempt with this token left, or makes key and
// certificate and puts both on the disk.
func (n *newcomer) begin(j roster.Join) error {
	switch m, st, err := look(n.dir); {
	case err != nil:
		return err
	case st == joined:
		return errJoined(n.dir)
	case st == begun:
		if err := n.takeUp(); err != nil {
			return err
		}
		return n.same(m, j)
	}
	now := time.Now()
	if t := j.Token; !now.Before(t.ExpiresAt.Time()) {
		return n.failed(refusal.New(refusal.Expired, "the join token expired at %s", t.ExpiresAt.Time().Format(time.RFC3339)))
	}
	for _, step := range n.preparation(j, now) {
		if err := step(); err != nil {
			return n.failed(err)
		}
	}
	return nil
}

// preparation is what is done before the server is asked; each step is durable
// when it returns.
func (n *newcomer) preparation(j roster.Join, now time.Time) []func() error {
	return []func() error{n.makeIdentity, func() error { return n.certify(j, now) }}
}

// takeUp reads what an attempt left.
func (n *newcomer) takeUp() (err error) {
	if n.member, err = read(n.dir); err != nil {
		return err
	}
	if n.identity, err = keyfile.LoadKey[key.Agent](filepath.Join(n.dir, identityFile)); err != nil {
		return err
	}
	n.asked = true // by the attempt that broke off, perhaps
	return nil
}

// same refuses to mix two attempts: the server may know the certificate of the
// first, which holds name and token.
func (n *newcomer) same(m Membership, j roster.Join) error {
	if !bytes.Equal(m.Token, j.TokenSigned) {
		return refusal.New(refusal.AlreadyJoined, "joining was begun here with another token: repeat it with that one, start the agent, which finishes it, or remove %q", n.dir)
	}
	cert, _, err := statement.Open[roster.AgentCert](m.Certificate, func(key.ID) (statement.Verifier, error) { return j.Token.Key, nil })
	if err != nil {
		return fmt.Errorf("reading the certificate that was begun with: %w", err)
	}
	if n.opts.Name != "" && n.opts.Name != cert.Name {
		return refusal.New(refusal.AlreadyJoined, "joining was begun here as %q: repeat it with that name", cert.Name)
	}
	return nil
}

// makeIdentity makes the key. One that is there without a certificate was never
// shown to anybody: it is used, or replaced when writing it broke off.
func (n *newcomer) makeIdentity() (err error) {
	path := filepath.Join(n.dir, identityFile)
	n.identity, err = keyfile.LoadKey[key.Agent](path)
	if err == nil || refusal.Of(err) == refusal.BadFileMode {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("making the agent's key: %v", err)
	}
	n.identity, err = keyfile.CreateKey[key.Agent](path)
	return err
}

// certify signs the certificate and writes down that it is going to be asked for.
func (n *newcomer) certify(j roster.Join, now time.Time) error {
	name, err := agentName(n.opts.Name)
	if err != nil {
		return err
	}
	cert, err := roster.SignAgent(j.Key, j.Token, roster.AgentCert{
		Team: j.Root.Team, Agent: n.identity.Public(), Name: name, Tags: j.Token.Tags,
		TokenID: j.Token.ID, IssuedAt: wire.At(now),
	})
	if err != nil {
		return err
	}
	n.member = Membership{Server: j.Token.Server, Fingerprint: j.Fingerprint, Token: j.TokenSigned, Certificate: cert, Root: j.RootSigned}
	return n.member.write(n.dir)
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

// attempt asks the server and writes the rest.
func (n *newcomer) attempt(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, joinLimit)
	defer cancel()
	for _, step := range n.registration(ctx) {
		if err := step(); err != nil {
			return n.failed(err)
		}
	}
	return nil
}

// registration is what is done once key and certificate are on the disk, in this
// order; each step is durable when it returns.
func (n *newcomer) registration(ctx context.Context) []func() error {
	return []func() error{
		func() error { return n.register(ctx) },
		n.clean,
		func() error { return trust.Create(n.dir, n.trust, n.policy) },
		n.createLedger,
		func() error { return spool.Create(n.dir, n.identity, n.trust.Roster.Team()) },
		n.complete,
	}
}

// register speaks to the server once and learns what the agent is to believe.
func (n *newcomer) register(ctx context.Context) error {
	addr := n.member.Server
	root, err := roster.OpenRoot(n.member.Root, n.member.Fingerprint)
	if err != nil {
		return err
	}
	cfg := client.Config{URL: addr.URL, Pin: addr.Pin, Access: addr.Access}
	c, reg, err := client.DialControl(ctx, cfg, func(channel key.Hash) (wire.Register, error) {
		n.asked = true
		return n.member.Register(n.identity, wire.Registration{
			Team: root.Team, Server: addr.Access, Channel: channel, ClientVersion: n.opts.Version,
		}, 0)
	})
	if err != nil {
		return err
	}
	defer c.Close()
	n.taken = true
	return n.learn(ctx, c, reg.Roster)
}

// learn verifies the chain from the fingerprint in the join string, as far as is
// needed to know this agent, its server and its policy.
func (n *newcomer) learn(ctx context.Context, c *client.Control, news wire.RosterNews) error {
	for {
		err := n.extend(news)
		if err != nil {
			return err
		}
		if n.trust.Rules != nil {
			if _, err = n.member.Verify(n.trust.Roster, n.identity.ID(), time.Now()); err == nil {
				return n.checkServer()
			}
		}
		if news, err = nextNews(ctx, c, err); err != nil {
			return err
		}
	}
}

func (n *newcomer) extend(news wire.RosterNews) (err error) {
	var text []byte
	if n.trust == nil {
		n.trust, text, err = trust.Found(n.member.Root, n.member.Fingerprint, news, time.Now())
	} else {
		n.trust, text, err = n.trust.With(news, time.Now())
	}
	if text != nil {
		n.policy = text
	}
	return err
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

// checkServer demands that the owners know the server that the token names.
func (n *newcomer) checkServer() error {
	s, err := n.trust.Roster.Server(n.member.Server.Access)
	if err != nil {
		return fmt.Errorf("the server of the join token is not in the team's roster: %w", err)
	}
	if s.Keys.TLS != n.member.Server.Pin {
		return refusal.New(refusal.PinMismatch, "the join token names another TLS key than the team's roster")
	}
	return nil
}

func (n *newcomer) createLedger() error {
	ledger, err := approval.CreateLedger(filepath.Join(n.dir, LedgerFile))
	if err != nil {
		return err
	}
	if err := ledger.Close(); err != nil {
		return fmt.Errorf("closing the ledger: %v", err)
	}
	return nil
}

// complete says that everything is there.
func (n *newcomer) complete() error {
	n.member.Root = nil
	return n.member.write(n.dir)
}

// failed undoes what was begun when the server cannot know of it, and says so
// when it may.
func (n *newcomer) failed(err error) error {
	if n.taken || n.asked && !unknownThere(refusal.Of(err)) {
		return fmt.Errorf("joining: %w (the server may have taken it: the next try with this token goes on from here)", err)
	}
	if n.clean() == nil {
		_ = os.Remove(filepath.Join(n.dir, memberFile))
		_ = os.Remove(filepath.Join(n.dir, identityFile))
		_ = os.Remove(filepath.Join(n.dir, lockFile))
		_ = os.Remove(n.dir) // fails when something of others is in it
	}
	return fmt.Errorf("joining: %w", err)
}

// unknownThere reports the server's refusals by which it does not have this
// certificate and will not take it. After all others it may have it: its answer
// can have been lost, or the fault have come after the registration.
func unknownThere(code refusal.Code) bool {
	switch code {
	case refusal.TokenUsed, refusal.NameTaken, refusal.KeyInUse, refusal.KeyRevoked, refusal.NotFound, refusal.Expired,
		refusal.UnknownAgent, refusal.UnknownKey, refusal.WiderThanAllowed, refusal.WrongTeam, refusal.BadName, refusal.BadRequest:
		return true
	}
	return false
}

// clean removes the rest of an attempt that broke off, all but key and agent.json.
func (n *newcomer) clean() error {
	errs := []error{trust.Remove(n.dir)}
	for _, name := range []string{LedgerFile, spoolFile} {
		if err := os.Remove(filepath.Join(n.dir, name)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
