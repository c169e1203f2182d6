// Package roster is who belongs to a team: a chain of versions signed by the
// team's owners, rooted in a hash that everybody pins.
//
//	root        {"team","name","owners":[…],"threshold"}   self-signed; its hash is the team fingerprint
//	version 1   {"team","version":1,"previous":hash(root),…}   ≥ threshold owners of the root
//	version v   {"team","version":v,"previous":hash(v-1),…}    ≥ threshold owners of v-1, and, when the
//	            owners or the threshold change, ≥ threshold of the new owners as well
//	join token  {"jti","team","fingerprint",…,"key":T}     an enroller or an owner
//	certificate {"team","agent","name","tags","tokenId",…} the token's key T
//
// All of them are statements (package statement), so a hash covers what was
// signed and not by whom: collecting one more cosignature changes no hash.
//
// A server hands these out but cannot make one. Whoever gets a version from
// anywhere gives it to State.Apply, which accepts the one next version of this
// team or says by name what is wrong: rollback, fork, gap, bad_chain,
// not_enough_signatures, wrong_team.
//
// The chain file ("tucdesk-chain-v1", the root, then one update per line, each a
// line of JSON in its one spelling and ended by a newline) is what a State
// writes and Load verifies again from the fingerprint on.
//
// The package is pure: the time is an argument, and it neither reads nor writes
// files. Writing the state durably before using it (rule 5 of protocol 3.3) is
// the caller's.
//
// Source: protocol 3, 4.1; attacks G.
package roster
