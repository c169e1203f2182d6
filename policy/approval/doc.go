// Package approval is the consent of other people to one request, made by the
// approver's client and checked by the agent right before it runs anything.
//
// An approval repeats the request's content besides its hash, so that the log is
// readable and what was shown can be compared with what runs:
//
//	{"jti","team","requestHash","session","agent","requester","action","params",
//	 "decision":"approve"|"deny","iat","exp"}     type "tucdesk/approval/v1", signed by an operator's key
//
// Check counts people, not keys and not signatures; whoever asked does not
// count, under any key. One rightful denial beats any number of approvals. Only
// the team's roster says who may approve, at the moment of the check: a role that
// was taken away a second ago is gone.
//
// Ledger is the agent's durable memory of which approvals and requests were
// used, so that one consent runs one thing once, also across kill -9:
//
//	file  = "tucdesk-ledger-v1" ‖ 14 spaces ‖ newline ‖ slot*
//	slot  = id (16) ‖ expiry in ms (8, big-endian) ‖ check (8)
//	check = first 8 bytes of SHA-256("tucdesk-ledger-slot-v1" ‖ id ‖ expiry)
//
// A slot whose id is zero is the floor: everything with an expiry at or before it
// counts as used, because the ledger may have forgotten it.
//
// Source: protocol 2.8, 4.3; attacks E.
package approval
