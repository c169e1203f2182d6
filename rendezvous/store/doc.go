// Package store keeps what the rendezvous must not lose, in SQLite for one
// process or in PostgreSQL for several, behind one set of queries.
//
//	sqlite:PATH            a file made with mode 0600, WAL, synchronous FULL, one writer
//	postgres://…           extended protocol only; the role must be subject to
//	                       row-level security, so neither superuser nor BYPASSRLS
//
// Whatever belongs to a team is reached through a Tx, which belongs to exactly
// one principal.TeamID: InTx for changes, View for looking. There is no method
// that takes a team as plain bytes, each query names team_id, and PostgreSQL's
// row-level security repeats both (attacks K10, K11). A business change and its
// audit entry happen in one InTx, so neither exists without the other.
//
// What must happen at most once is one statement against a unique key, never a
// look followed by a change: the use of a join token (attack G8), a proof's id
// (D2), a setup code, a request's state (E12), a checkpoint of one size.
//
// Times are milliseconds, as on the wire: one unit from the signature to the
// table. An error is either a refusal for the caller to pass on or a fault whose
// code is unavailable and whose text is for our own log alone (attacks K15, K18).
//
// Source: design 6; protocol 2.8, 4.3, 5.1.
package store
