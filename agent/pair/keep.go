package pair

import (
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// KeepAnswer is what the supervisor found or did about kept shells, told together
// with the keys. Where the request was to get one, its stream waits at descriptor 4.
type KeepAnswer struct {
	Code   refusal.Code `json:"code"` // "" is yes
	Detail string       `json:"detail"`
	Shells []KeptShell  `json:"shells"` // of a list
}

// KeptShell is one kept shell of the operator who asks.
type KeptShell struct {
	Name     string     `json:"name"`
	User     string     `json:"user"`     // login user it runs as
	Since    time.Time  `json:"since"`    // when it began
	Attached bool       `json:"attached"` // a session has it
	Left     *time.Time `json:"left"`     // when the last session ended; null while one has it
	Until    *time.Time `json:"until"`    // when it ends if no session takes it, or at all; null is never
}
