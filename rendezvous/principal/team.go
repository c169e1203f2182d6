package principal

import "github.com/tucdesk/tucdesk/internal/wire"

// TeamID is a team whose caller was verified. Its one field cannot be set from
// outside: a TeamID comes from Issuer.Verify, FromRegistration or Trusted.
type TeamID struct{ id wire.TeamID }

// Trusted makes a TeamID of an id that needs no verification because it comes
// from our own database. Only rendezvous/store may call it, for the rows it
// lists and founds; a test of this package reads every source file of the
// module and fails on any other caller.
func Trusted(id wire.TeamID) TeamID { return TeamID{id: id} }

// Wire returns the plain id, for statements, queries and comparisons.
func (t TeamID) Wire() wire.TeamID { return t.id }

// String returns 32 hex digits.
func (t TeamID) String() string { return t.id.String() }

// IsZero reports whether t names no team; the zero TeamID opens nothing.
func (t TeamID) IsZero() bool { return t.id == wire.TeamID{} }
