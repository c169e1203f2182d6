package wire

import (
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
)

// Lease says how long a relay credential holds and what gets the next one
// (protocol 6.2). It travels beside the credential.
type Lease struct {
	Lifetime Millis           `json:"lifetime"` // of the credential, from its arrival on, so that no two clocks are compared
	Ticket   statement.Signed `json:"ticket"`   // RelayTicket; null when the session may not outlast the credential
}

// RelayTicket entitles both ends of one session to further credentials of its
// pair. The server signs it with the key of its grants, for itself to read: it
// keeps no list of sessions, so that a restart, or another node, ends none.
type RelayTicket struct {
	IssuedAt    Millis    `json:"iat"`
	EndsAt      Millis    `json:"ends"` // of the session by the policy's limit; no credential lives longer; 0 is unlimited
	Team        TeamID    `json:"team"`
	Session     SessionID `json:"session"`
	RequestHash key.Hash  `json:"requestHash"`
	Operator    key.ID    `json:"operator"`
	Agent       key.ID    `json:"agent"`
	Pair        Nonce     `json:"pair"` // in the user names of both credentials
}

// Kind says how a RelayTicket is signed.
func (RelayTicket) Kind() statement.Kind {
	return statement.Kind{Type: "tucdesk/relay-ticket/v1", MaxSize: 1 << 10}
}

// RelayWant asks for the next relay credential of a session (protocol 6.2), in a
// frame by its agent, as the body of a call by its operator.
type RelayWant struct {
	Ticket statement.Signed `json:"ticket"` // from the Lease
}

// RelayRenewed is the asker's next credential, of the same pair and role.
type RelayRenewed struct {
	Relay Relay `json:"relay"`
	Lease Lease `json:"lease"`
}

// RelayChecked is a credential with which whoever asked can find out which relays
// it reaches. Its pair has no other side, so it carries nothing to anybody.
type RelayChecked struct {
	Relay Relay `json:"relay"`
}

// SessionEnded is what an agent wrote into its chain of the team's log: that one
// session of the caller's has ended there or, where it has no such entry, that the
// agent's program has begun to run, for the last time. null when there is neither.
type SessionEnded struct {
	Entry statement.Signed `json:"entry"`
}
