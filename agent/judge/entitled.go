package judge

import (
	"time"

	"github.com/tucdesk/tucdesk/agent/trust"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// Entitled returns the operator who has that key, if it may have sessions here by
// what is in force: it is in the roster, not revoked, and of a role that opens
// sessions at all (protocol 2.5, 4.3). It is the one way to ask, for a request and
// for what stands already: who was made a viewer is as little let on as who was
// removed. Refusals are those of roster.State.Operator, and WrongRole.
func Entitled(t *trust.Trust, operator key.ID, now time.Time) (roster.Operator, error) {
	op, err := t.Roster.Operator(operator, now)
	if err != nil {
		return op, err
	}
	if !op.Role.AtLeast(policy.Operator) {
		return op, refusal.New(refusal.WrongRole, "role %s opens no sessions", op.Role)
	}
	return op, nil
}
