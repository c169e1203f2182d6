package rendezvous

import (
	"net/http"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/live"
	"github.com/tucdesk/tucdesk/rendezvous/problem"
)

// begin remembers a session before its agent is asked, so that whatever takes the
// right away meanwhile finds it. It reports whether the session is new.
func (s *Server) begin(c *gate.Call, g granted) (isNew bool) {
	req := c.Session.Request
	return c.Team.Live.Put(live.Session{ID: req.Session, Operator: req.Operator, Agent: req.Agent}, g.operator.ExpiresAt.Time(), time.Now())
}

// begun looks at a session that its agent has accepted. A cut that overtook the
// acceptance found nothing to end there, so it is sent again.
func (s *Server) begun(c *gate.Call) error {
	req := c.Session.Request
	code := c.Team.Live.Ended(req.Session)
	if code == "" {
		return nil
	}
	s.teams.Recut(c.Team, req.Agent, req.Session, code)
	return problem.With(http.StatusForbidden, refusal.New(code, "the right to this session was taken away while it began"))
}
