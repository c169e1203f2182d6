package store

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
)

// EndLogin makes the token that who was verified by worthless on every node, and with
// it each of the same key and team that ends earlier (attack C12): a client logs in
// anew before its token ends, and whoever copied the one before has it yet. It stands
// among the ids that were spent, for as long as they do. To end one twice is nothing.
func (t *Tx) EndLogin(who principal.Principal) error {
	var floor int64
	_, err := t.row("ending a login", insertReplay, []any{loginsOf(who), endOf(who), int64(who.ExpiresAt)}, &floor)
	return err
}

// RecordFor is Record for a call with who's token, in the same query: every call asks
// for the team's roster version anyway, so a logout on another node binds here from
// the next call on. A token that EndLogin ended is not_logged_in.
func (t *Tx) RecordFor(who principal.Principal, now time.Time) (Team, error) {
	ended := false
	team, err := t.record(selectTeamFor, []any{t.id, loginsOf(who), endOf(who), int64(who.ExpiresAt),
		lastEnd(int64(who.ExpiresAt)), lastEnd(millis(now.Add(principal.Lifetime + principal.Leeway)))}, &ended)
	if err == nil && ended {
		err = refusal.New(refusal.NotLoggedIn, "this login was ended; log in again")
	}
	return team, err
}

// loginsOf is the name under which ends of logins are kept.
func loginsOf(who principal.Principal) string {
	return "logout:" + who.Team.String() + ":" + who.Operator.String()
}

// endOf is the id of a login's end: when the token ends, and half of the token's own id.
// So the table's key has the ends of one name by time, and whether there is a later one
// is found at once, however often somebody has logged out (attack B18).
func endOf(who principal.Principal) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(who.ExpiresAt)), who.ID[:8]...)
}

// lastEnd is the greatest id of an end at that time, in milliseconds since 1970.
func lastEnd(at int64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(at)), math.MaxUint64)
}
