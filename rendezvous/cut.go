package rendezvous

import (
	"net/http"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/bus"
	"github.com/tucdesk/tucdesk/rendezvous/chain"
	"github.com/tucdesk/tucdesk/rendezvous/channel"
	"github.com/tucdesk/tucdesk/rendezvous/live"
	"github.com/tucdesk/tucdesk/rendezvous/problem"
)

// cut ends sessions at their agents, those of the team for which why has a code. An
// agent that is told ends the session at once, before it has read the roster or
// anything else that takes the right away (attack G6). Cutting is denial, so it
// needs no signature: a server that lies can cut a session off, which it can as
// well by sitting still.
func (s *Server) cut(t *team, now time.Time, why func(live.Session) refusal.Code) {
	cuts := t.live.End(now, why)
	if len(cuts) == 0 {
		return
	}
	byAgent := map[key.ID][]live.Cut{}
	for _, c := range cuts {
		byAgent[c.Agent] = append(byAgent[c.Agent], c)
	}
	s.bus.Each(t.id, func(agent key.ID, held bus.Conn) {
		if c, ok := held.(*conn); ok {
			for _, cut := range byAgent[agent] {
				c.cut(cut)
			}
		}
	})
}

// cut queues a cut if there is room: a channel must not end because of it. The
// agent finds out by itself what it is not told.
func (c *conn) cut(cut live.Cut) {
	body, err := channel.Body(wire.Cut{Session: cut.ID, Code: cut.Code})
	if err == nil && c.Offer(wire.Frame{Type: wire.FrameCut, Body: body}) {
		c.s.count("cut")
	}
}

// one is a why of cut for one session.
func one(id wire.SessionID, code refusal.Code) func(live.Session) refusal.Code {
	return func(l live.Session) refusal.Code {
		if l.ID == id {
			return code
		}
		return ""
	}
}

// cutLost cuts the sessions of operators who have none by the roster of now.
func (s *Server) cutLost(t *team, next chain.State) {
	now := time.Now()
	s.cut(t, now, func(l live.Session) refusal.Code { return refusal.Of(next.MaySession(l.Operator, now)) })
}

// begin remembers a session before its agent is asked, so that whatever takes the
// right away meanwhile finds it. It reports whether the session is new.
func (s *Server) begin(c *call, g granted) (isNew bool) {
	req := c.open.req
	return c.team.live.Put(live.Session{ID: req.Session, Operator: req.Operator, Agent: req.Agent}, g.operator.ExpiresAt.Time(), time.Now())
}

// begun looks at a session that its agent has accepted. A cut that overtook the
// acceptance found nothing to end there, so it is sent again.
func (s *Server) begun(c *call) error {
	req := c.open.req
	code := c.team.live.Ended(req.Session)
	if code == "" {
		return nil
	}
	s.bus.Each(c.team.id, func(agent key.ID, held bus.Conn) {
		if conn, ok := held.(*conn); ok && agent == req.Agent {
			conn.cut(live.Cut{Session: live.Session{ID: req.Session}, Code: code})
		}
	})
	return problem.With(http.StatusForbidden, refusal.New(code, "the right to this session was taken away while it began"))
}
