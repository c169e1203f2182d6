// Package audit is the tamper-evident log, in parts: entries that are signed where
// they happened, one Merkle tree per team, checkpoints that everybody remembers,
// and a verifier that needs nothing but an export and the team's fingerprint.
//
//	redact      hides what looks like a secret before it is signed
//	entry       one signed line of the log
//	spool       an agent's own chain of entries, until the log has proved to hold them
//	tree        hashing, proofs and tiles
//	checkpoint  the signed state of a log, and cosignatures
//	ledger      the log at the rendezvous
//	witness     what an agent or operator remembers of a log
//	export      the whole log in a file
//	tiles       an export as a folder that generic readers understand
//	signers     who may have signed what stands in an export
//	consent     whether enough people agreed to what an entry says
//	finding     what does not hold
//	diagnosis   what was done to the log that it does not
//	verify      looks for what does not hold in an export
//	lines       bounded lines of a file
//
// It holds no code: its tests are those of all parts together.
//
// Source: protocol 5; attacks N.
package audit
