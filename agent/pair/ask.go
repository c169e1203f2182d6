package pair

import (
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// Ask is a session process' question whether something may be done in its session.
type Ask struct {
	ID     uint64      `json:"id"`     // of this question, chosen by the child
	Action wire.Action `json:"action"` // as policies name it
	Target string      `json:"target"` // as policies write it; "" where the action has none
}

// Answer is the supervisor's answer to the question of that ID.
type Answer struct {
	ID     uint64       `json:"id"`
	Code   refusal.Code `json:"code"`   // "" is yes
	Detail string       `json:"detail"` // why not, for the operator
	Named  bool         `json:"named"`  // a rule names this very target
	Roots  []string     `json:"roots"`  // folders that a copy stays in; null for all that the user may see

	// Sockets are what some rule names as a target, of a copy-write: it leaves them, and what
	// leads to them, in their places.
	Sockets []string `json:"sockets"`
	// Special says of a copy-write that setuid, setgid and sticky bits may come with it.
	Special bool `json:"special"`
	// Mark tells the operator from others, in names of what their copies leave unfinished;
	// of a copy-write, 20 hex digits.
	Mark string `json:"mark"`
}
