package store

import (
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
)

func TestEndOfASessionIsFoundByItsAgentAndOperator(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team, other := found(t, s), found(t, s)
		agent, operator, stranger := key.ID{1}, key.ID{2}, key.ID{3}
		mine, theirs := wire.NewSessionID(), wire.NewSessionID()
		put := func(index int64, text string, e End) {
			e.Agent, e.Seq, e.Entry = agent, uint64(index+1), wire.NewNonce()
			in(t, s, team, "", func(tx *Tx) error {
				if _, err := tx.AuditExtend(1); err != nil {
					return err
				}
				if err := tx.PutAuditEntry(index, e.Entry, statement.Signed(text)); err != nil {
					return err
				}
				return tx.PutEnd(e, now)
			})
		}
		says := func(team principal.TeamID, agent key.ID, session wire.SessionID, operator key.ID, want string) {
			t.Helper()
			look(t, s, team, func(tx *Tx) error {
				got, err := tx.Ended(agent, session, operator)
				if string(got) != want {
					t.Errorf("found %q, want %q", got, want)
				}
				return err
			})
		}
		says(team, agent, mine, operator, "")
		put(0, "start", End{})
		put(1, "mine", End{Session: mine, Operator: operator})
		put(2, "same id", End{Session: mine, Operator: stranger})
		put(3, "start again", End{})
		says(team, agent, mine, operator, "mine")
		says(team, agent, mine, stranger, "same id")
		says(team, agent, theirs, operator, "start again")
		says(team, stranger, mine, operator, "")
		says(other, agent, mine, operator, "")

		in(t, s, team, "", func(tx *Tx) error { // sent again by an agent that got no answer
			return tx.PutEnd(End{Agent: agent, Seq: 1, Entry: wire.NewNonce()}, now)
		})
		says(team, agent, theirs, operator, "start again")
		prune := func(at time.Time) { in(t, s, team, "", func(tx *Tx) error { return tx.PruneEnds(at) }) }
		prune(now.Add(KeepEnds - time.Second))
		says(team, agent, mine, operator, "mine")
		prune(now.Add(KeepEnds))
		says(team, agent, mine, operator, "")
	})
}
