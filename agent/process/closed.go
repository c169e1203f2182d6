package process

import (
	"fmt"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// closed refuses a login user. An operator reads the refusal alone, which is the same
// whatever the cause: otherwise whoever may ask could find out which users a machine
// has. The cause stands around it, for the log of the agent, whose administrator
// has to find out why somebody is kept out.
func closed(cause string, args ...any) error {
	refused := refusal.New(refusal.UserNotAllowed, "this login user cannot be had on this host")
	return fmt.Errorf("%w (%s)", refused, fmt.Sprintf(cause, args...))
}
