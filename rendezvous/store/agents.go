package store

import (
	"database/sql"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// MaxPage is how many rows a list returns at most; our choice.
const MaxPage = 1000

// maxLabel caps what an agent says about itself, in bytes; our choice.
const maxLabel = 255

// Token is a join token whose uses are counted here.
type Token struct {
	ID        wire.Nonce
	Statement statement.Signed // roster.Token
	MaxUses   int              // at least 1
	ExpiresAt wire.Millis
}

// PublishToken stores a verified token. The same statement again is no error;
// another one with the same id is replay.
func (t *Tx) PublishToken(k Token, now time.Time) error {
	n, err := t.exec("storing a join token", insertToken, t.id, k.ID[:], bytesOf(k.Statement), k.MaxUses, int64(k.ExpiresAt), millis(now))
	if err != nil || n == 1 {
		return err
	}
	have, err := t.Token(k.ID)
	if err == nil && have.Token.Hash() != k.Statement.Hash() {
		err = refusal.New(refusal.Replay, "another join token has this id")
	}
	return err
}

// Token returns one token.
func (t *Tx) Token(id wire.Nonce) (wire.TokenInfo, error) {
	var info wire.TokenInfo
	ok, err := t.row("reading a join token", selectToken, []any{t.id, id[:]}, (*[]byte)(&info.Token), &info.Used)
	if err == nil && !ok {
		err = refusal.New(refusal.NotFound, "no such join token")
	}
	return info, err
}

// Tokens returns the newest MaxPage tokens, newest first.
func (t *Tx) Tokens() ([]wire.TokenInfo, error) {
	var list []wire.TokenInfo
	err := t.rows("listing join tokens", selectTokens, []any{t.id, MaxPage}, func(scan func(...any) error) error {
		var info wire.TokenInfo
		err := scan((*[]byte)(&info.Token), &info.Used)
		list = append(list, info)
		return err
	})
	return list, err
}

// Agent is one agent. What its last three texts say is the agent's own word.
type Agent struct {
	Kid          key.ID
	Name         string // from the certificate; "" once deleted
	TokenID      wire.Nonce
	Token        statement.Signed // roster.Token
	Certificate  statement.Signed // roster.AgentCert
	Registration statement.Signed // the latest wire.Registration, with the head of the agent's audit chain
	Platform     string
	Hostname     string
	Version      string
	JoinedAt     wire.Millis
	LastSeen     wire.Millis
	DeletedAt    wire.Millis // 0 while the agent is registered
}

// Info is the agent as the API shows it.
func (a Agent) Info(online bool) wire.AgentInfo {
	return wire.AgentInfo{
		Token: a.Token, Certificate: a.Certificate, Online: online, LastSeen: a.LastSeen,
		Platform: a.Platform, Hostname: a.Hostname, Version: a.Version,
	}
}

// RegisterAgent takes a verified registration. An agent that is new uses up one
// use of its token, in the same transaction and in one statement, so that two
// agents in a race cannot share one (attack G8); a known agent with the same
// certificate only refreshes its texts. It reports whether the agent is new.
//
// Refusals: token_used, expired, not_found (no such token), key_in_use (also by
// another team, B15), key_revoked (deleted before), name_taken (G11),
// bad_request (texts).
func (t *Tx) RegisterAgent(a Agent, now time.Time) (bool, error) {
	for _, label := range []string{a.Platform, a.Hostname, a.Version} {
		if len(label) > maxLabel || !utf8.ValidString(label) || strings.ContainsRune(label, 0) {
			return false, refusal.New(refusal.BadRequest, "platform, host name or version is not plain text of at most %d bytes", maxLabel)
		}
	}
	if a.Name == "" {
		return false, refusal.New(refusal.BadName, "agent without a name")
	}
	n, err := t.exec("storing an agent", insertAgent, t.id, a.Kid[:], a.Name, a.TokenID[:], bytesOf(a.Token), bytesOf(a.Certificate),
		bytesOf(a.Registration), a.Platform, a.Hostname, a.Version, millis(now))
	switch {
	case err != nil:
		return false, err
	case n == 1:
		return true, t.useToken(a.TokenID, now)
	}
	n, err = t.exec("refreshing an agent", updateAgent, t.id, a.Kid[:], bytesOf(a.Registration), a.Platform, a.Hostname, a.Version,
		millis(now), bytesOf(a.Certificate))
	if err != nil || n == 1 {
		return false, err
	}
	return false, t.whyNotAgent(a)
}

func (t *Tx) useToken(id wire.Nonce, now time.Time) error {
	n, err := t.exec("using a join token", useToken, t.id, id[:], millis(now))
	if err != nil || n == 1 {
		return err
	}
	if _, err := t.Token(id); err != nil {
		return err
	}
	return refusal.New(refusal.TokenUsed, "the join token has expired or has no uses left")
}

func (t *Tx) whyNotAgent(a Agent) error {
	have, err := t.Agent(a.Kid)
	switch {
	case err == nil && have.DeletedAt != 0:
		return refusal.New(refusal.KeyRevoked, "this agent was deleted; join again with a new key")
	case err == nil:
		return refusal.New(refusal.KeyInUse, "this key has joined with another certificate")
	case refusal.Of(err) != refusal.NotFound:
		return err
	}
	var n int
	if _, err := t.row("looking for a name", countName, []any{t.id, a.Name}, &n); err != nil {
		return err
	}
	if n > 0 {
		return refusal.New(refusal.NameTaken, "another agent has this name; choose one with --name")
	}
	return refusal.New(refusal.KeyInUse, "this key is registered elsewhere")
}

func scanAgent(scan func(...any) error) (Agent, error) {
	var a Agent
	var name sql.NullString
	err := scan(fixed(a.Kid[:]), &name, fixed(a.TokenID[:]), (*[]byte)(&a.Token), (*[]byte)(&a.Certificate), (*[]byte)(&a.Registration),
		&a.Platform, &a.Hostname, &a.Version, &a.JoinedAt, &a.LastSeen, &a.DeletedAt)
	a.Name = name.String
	return a, err
}

func (t *Tx) agents(query string, args ...any) ([]Agent, error) {
	var list []Agent
	err := t.rows("reading agents", query, args, func(scan func(...any) error) error {
		a, err := scanAgent(scan)
		list = append(list, a)
		return err
	})
	return list, err
}

// Agent returns one agent, also one that was deleted: look at DeletedAt.
func (t *Tx) Agent(kid key.ID) (Agent, error) {
	list, err := t.agents(selectAgent, t.id, kid[:])
	if err == nil && len(list) == 0 {
		err = refusal.New(refusal.NotFound, "no such agent")
	}
	if err != nil {
		return Agent{}, err
	}
	return list[0], nil
}

// Agents returns up to limit agents whose name follows after, by name, and the
// name to continue with, "" at the end. after comes from a client: anything but
// "" or a possible name, and a limit outside 1 to MaxPage, is bad_cursor (K13).
func (t *Tx) Agents(after string, limit int) ([]Agent, string, error) {
	if limit < 1 || limit > MaxPage || len(after) > maxName || strings.Trim(after, nameBytes) != "" {
		return nil, "", refusal.New(refusal.BadCursor, "page cannot be continued from there")
	}
	list, err := t.agents(selectAgents, t.id, after, limit+1)
	if err != nil || len(list) <= limit {
		return list, "", err
	}
	return list[:limit], list[limit-1].Name, nil
}

// A possible agent name, as package roster defines it.
const (
	maxName   = 63
	nameBytes = "abcdefghijklmnopqrstuvwxyz0123456789.-"
)

// DeleteAgent removes an agent for good: its key may not come back, its name may.
func (t *Tx) DeleteAgent(kid key.ID, now time.Time) error {
	n, err := t.exec("deleting an agent", deleteAgent, t.id, kid[:], millis(now))
	if err == nil && n == 0 {
		err = refusal.New(refusal.NotFound, "no such agent")
	}
	return err
}

// SawAgent notes that the agent was connected at now. One that is not registered
// any more is key_revoked: its channel has to end.
func (t *Tx) SawAgent(kid key.ID, now time.Time) error {
	n, err := t.exec("noting an agent", sawAgent, t.id, kid[:], millis(now))
	if err == nil && n == 0 {
		err = refusal.New(refusal.KeyRevoked, "this agent was deleted")
	}
	return err
}

// Notable reports whether what, a digest of what there is to say about an agent's
// connection, differs from what was said last, and keeps it. Of two connections at
// once with the same to say, one is notable.
func (t *Tx) Notable(kid key.ID, what key.Hash) (bool, error) {
	n, err := t.exec("noting a connection", noteLogged, t.id, kid[:], what[:])
	return n == 1, err
}

// LockAgent reports whether the agent is registered, and keeps it so until the
// transaction ends: what is decided on it cannot be overtaken by a deletion
// (attack K16).
func (t *Tx) LockAgent(kid key.ID) (bool, error) {
	n, err := t.exec("locking an agent", lockAgent, t.id, kid[:])
	return n == 1, err
}
