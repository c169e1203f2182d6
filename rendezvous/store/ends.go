package store

import (
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// KeepEnds is for how long Ended finds what PutEnd was told: no operator waits longer
// for a session than a day (protocol 2.7). Our choice.
const KeepEnds = 2 * 24 * time.Hour

// End says which entry of the log ends what. Session and Operator are both zero for
// an agent's start, which ended all that it had before.
type End struct {
	Agent    key.ID
	Session  wire.SessionID
	Operator key.ID
	Seq      uint64     // of the entry, in the agent's chain
	Entry    wire.Nonce // its id
}

// PutEnd remembers e, unless a later entry says the same.
func (t *Tx) PutEnd(e End, now time.Time) error {
	_, err := t.exec("noting the end of a session", upsertEnd, t.id, e.Agent[:], e.Session[:], e.Operator[:], e.Seq, e.Entry[:], millis(now))
	return err
}

// Ended returns the agent's entry about the end of an operator's session or, without
// that, the one about its latest start; nil when the log has neither.
func (t *Tx) Ended(agent key.ID, session wire.SessionID, operator key.ID) (s statement.Signed, err error) {
	var all End
	_, err = t.row("looking for the end of a session", selectEnd,
		[]any{t.id, agent[:], session[:], operator[:], all.Session[:], all.Operator[:]}, (*[]byte)(&s))
	return s, err
}

// PruneEnds forgets what is older than KeepEnds. The entries stay.
func (t *Tx) PruneEnds(now time.Time) error {
	_, err := t.exec("forgetting ends of sessions", pruneEnds, t.id, millis(now.Add(-KeepEnds)))
	return err
}
