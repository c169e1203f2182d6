package rendezvous

import (
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/store"
)

// noteEnds remembers which of an agent's entries, all of them verified, say that a
// session is over.
func noteEnds(tx *store.Tx, agent key.ID, entries []statement.Signed, now time.Time) error {
	for _, s := range entries {
		e := entry.Peek(s)
		end := store.End{Agent: agent, Seq: e.Seq, Entry: e.ID}
		switch e.Type {
		case entry.SessionEnd:
			end.Session, end.Operator = e.Session, e.Actor.Kid
		case entry.AgentStart:
		default:
			continue
		}
		if err := tx.PutEnd(end, now); err != nil {
			return err
		}
	}
	return nil
}

// sessionEnd answers an operator to whose session no way leads any more: a session
// process that was killed, or a machine that lost its power, could not say goodbye.
// The word is the agent's, signed for its log, so this server can withhold it and
// not make it up. To others than its operator it is as if there were no such session.
func (s *Server) sessionEnd(c *call) (any, error) {
	var session wire.SessionID
	if session.UnmarshalText([]byte(c.vars["session"])) != nil {
		return nil, errNotFound()
	}
	agent, err := key.ParseID(c.query.Get("agent"))
	if err != nil {
		return nil, refusal.New(refusal.BadRequest, "agent: want a key id")
	}
	var ended wire.SessionEnded
	err = s.store.View(c.http.Context(), c.team.id, func(tx *store.Tx) (err error) {
		if _, err := tx.Agent(agent); err != nil {
			return err
		}
		ended.Entry, err = tx.Ended(agent, session, c.who.Operator)
		return err
	})
	return ended, err
}
