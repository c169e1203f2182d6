package rendezvous

import (
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/tree"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/channel"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/problem"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

// Limits of control channels; our choice where wire says nothing. Those of the frames
// on one are package channel's.
const (
	registerWithin = 5 * time.Second // from the upgrade to a complete registration frame
	maxConns       = 20_000          // control channels of this process
)

// conn is one agent's registered control channel: whose it is, and what the agent has
// been told.
type conn struct {
	*channel.Conn
	s     *Server
	team  *team.Team
	agent key.ID
	name  string
	token statement.Signed
	cert  statement.Signed
	bound func() // takes the channel off the bus

	// showing keeps checkpoints in the order of their proofs, each of which begins
	// where the last one ended: held across the database until the frame is queued.
	showing sync.Mutex

	mu      sync.Mutex  // guards the rest
	has     uint64      // roster version that the agent has or was sent
	seen    uint64      // size of the log it was shown last
	shown   []tree.Head // the newest checkpoints that it was shown, at most maxShown
	noted   time.Time   // when the database was last told that the agent is here
	checked uint64      // roster version by which cert was verified last
}

// control upgrades a call to an agent's channel and serves it to its end.
func (s *Server) control(c *gate.Call) (any, error) {
	if err := channel.Check(c.HTTP); err != nil {
		return nil, err
	}
	binding, err := c.Channel()
	if err != nil {
		return nil, err
	}
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	ch, err := channel.Accept(s.base, c.W, c.HTTP)
	if err != nil {
		return nil, gate.ErrAnswered // by Accept
	}
	defer ch.Close()
	s.serveControl(ch, c, binding)
	return nil, gate.ErrAnswered
}

// enter counts a channel, also before it has registered, and refuses when there
// are too many.
func (s *Server) enter() (leave func(), err error) {
	s.connsMu.Lock()
	defer s.connsMu.Unlock()
	if s.conns >= maxConns {
		return nil, refusal.New(refusal.TooMany, "this server holds all the agents it can")
	}
	s.conns++
	return func() {
		s.connsMu.Lock()
		defer s.connsMu.Unlock()
		s.conns--
	}, nil
}

func (s *Server) serveControl(ch *channel.Conn, c *gate.Call, binding key.Hash) {
	conn, err := s.admit(ch, binding)
	if err != nil {
		s.metrics.Count("refused_" + string(problem.Code(err)))
		s.log.Info("an agent's registration was refused", "request", c.ID, "err", err)
		ch.Refuse(err)
		return
	}
	why := ch.Serve(channel.Handler{
		Begin: conn.catchUp, Seen: func() { s.metrics.Count("frames") }, Frame: conn.handle, Beat: conn.beat, Gone: conn.bound,
	})
	s.log.Info("an agent has left", "team", conn.team.ID.String(), "agent", conn.agent.String(), "why", why)
}

// handle is what an agent may say. Nothing in a frame names the agent or its
// team: both are the registration's (attack K5).
func (c *conn) handle(f wire.Frame) error {
	switch f.Type {
	case wire.FrameHeartbeat:
		var h wire.HeartbeatReply
		if err := strict.Decode(f.Body, &h); err != nil {
			return err
		}
		c.takeCosignature(h.Cosigned)
		return c.alive()
	case wire.FrameRoster:
		var want wire.RosterWant
		if err := strict.Decode(f.Body, &want); err != nil {
			return err
		}
		return c.wants(want)
	case wire.FrameAudit:
		var batch wire.AuditEntries
		if err := strict.Decode(f.Body, &batch); err != nil {
			return err
		}
		return c.takeAudit(batch)
	case wire.FrameRelay:
		return c.renew(f)
	}
	return refusal.New(refusal.ProtocolError, "a frame that an agent does not send")
}
