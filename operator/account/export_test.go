package account

import "github.com/tucdesk/tucdesk/internal/wire"

// PickForTest is pick.
func (a *Account) PickForTest(list []wire.AgentInfo, name string) (Machine, error) {
	return a.pick(list, name)
}

// SameRosterForTest is sameRoster.
func (a *Account) SameRosterForTest(reply wire.LoginReply) error { return a.sameRoster(reply) }

// AskOwnerForTest is askOwner.
func (a *Account) AskOwnerForTest(cause error) error { return a.askOwner(cause) }
