package gate

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/chain"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

// Call is one request on its way through the gate to its handler. It belongs to the
// goroutine that serves it.
type Call struct {
	HTTP  *http.Request
	W     http.ResponseWriter // for answers that are not one JSON value
	ID    string              // 32 hex digits, in the log and in every problem
	Route *Route
	Vars  map[string]string // the named parts of the path
	Query url.Values
	Body  []byte
	Now   time.Time

	// Set for whoever has a token; a handler that verifies its caller by itself sets
	// them too, for the log.
	Who   principal.Principal
	Team  *team.Team
	State chain.State     // the roster and policy that this call is judged by
	Op    roster.Operator // the caller's entry in it

	Session  *Session // what the call asks for, where its Subject read a session request
	Ticket   *Ticket  // what it shows, where its Subject read a relay ticket
	Recorded bool     // the refusal is in the audit log already

	proof   wire.Proof               // once it was checked
	control *http.ResponseController // of W
}

// Session is a session request after its statement was verified.
type Session struct {
	Request wire.Request
	Hash    key.Hash
	Signed  statement.Signed
	Open    wire.Bytes // M1
}

// Ticket is a relay ticket after it was verified.
type Ticket struct {
	wire.RelayTicket
	Signed statement.Signed
}

// path is the route's pattern, which holds nothing of the caller's.
func (c *Call) path() string {
	if c.Route == nil {
		return ""
	}
	return c.Route.Path
}

// HashVar reads a key id or hash from the path. One that is not well formed is
// not found, like one that does not exist.
func (c *Call) HashVar(name string) (key.ID, error) {
	id, err := key.ParseID(c.Vars[name])
	if err != nil {
		return key.ID{}, team.NotFound()
	}
	return id, nil
}

// NumberOf reads a parameter that is "" or a number in its one spelling.
func (c *Call) NumberOf(name string) (uint64, error) {
	text := c.Query.Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || strconv.FormatUint(n, 10) != text {
		return 0, refusal.New(refusal.BadCursor, "%s: want a number", name)
	}
	return n, nil
}

// Channel is our end of what a login or registration signs (RFC 9266).
func (c *Call) Channel() (key.Hash, error) {
	cs := c.HTTP.TLS
	if cs == nil || cs.Version != tls.VersionTLS13 {
		return key.Hash{}, refusal.New(refusal.WrongChannel, "the connection is not TLS 1.3")
	}
	raw, err := cs.ExportKeyingMaterial(wire.ExporterLabel, nil, len(key.Hash{}))
	if err != nil {
		return key.Hash{}, refusal.New(refusal.WrongChannel, "the connection has no exporter")
	}
	return key.Hash(raw), nil
}

// Entry begins an entry about what the caller did.
func (c *Call) Entry(typ entry.EventType) entry.Entry {
	return entry.Entry{Type: typ, Time: wire.At(c.Now),
		Actor: entry.Actor{Kid: c.Who.Operator, Email: c.Op.Email, Person: c.Op.Person}}
}

// record notes a call that a verified key was refused. How many is
// limited, so that nobody fills the log by asking; the counters have them all.
func (g *Gate) record(c *Call, code refusal.Code) {
	if c.Who.Operator.IsZero() || c.Recorded || code == refusal.RateLimited || code == refusal.Unavailable ||
		!g.Refusals.Allow(c.Who.Operator, c.Now) {
		return
	}
	e := c.Entry(entry.Alarm)
	switch c.Route.Path {
	case wire.PathSessions:
		e.Type = entry.SessionDeny
	case wire.PathLogin:
		e.Type = entry.LoginRefuse
	}
	if s := c.Session; s != nil {
		e.Target.Agent, e.Session, e.RequestHash, e.Command = s.Request.Agent, s.Request.Session, s.Hash, s.Command()
		*e.Command = e.Command.Refused()
	}
	e.Refusal = code
	err := g.Store.InTx(context.WithoutCancel(c.HTTP.Context()), c.Team.ID, func(tx *store.Tx) error {
		return c.Team.Log.Record(tx, c.State, e)
	})
	if err != nil {
		g.Log.Warn("recording a refusal", "request", c.ID, "err", err)
	}
}

// Command is what was asked for; the log redacts it before it signs.
func (s *Session) Command() *entry.Command {
	req := s.Request
	cmd := &entry.Command{Action: req.Action, User: req.Params.User, Argv: req.Params.Argv, Cwd: req.Params.Cwd, TTY: req.Params.TTY}
	for _, v := range req.Params.Env {
		cmd.EnvNames = append(cmd.EnvNames, v.Name)
	}
	return cmd
}
