// Package audit is the tamper-evident log: entries that are signed where they
// happened, one Merkle tree per team, checkpoints that everybody remembers, and a
// verifier that needs nothing but an export and the team's fingerprint.
//
// An entry is a statement "tucdesk/audit-entry/v1" (see Entry), signed by the
// agent that acted or by the rendezvous' audit key. Each signer numbers its
// entries from 1 and names the hash of its previous one, so that neither the
// server nor a copy of the log can leave one out or turn two round. The leaf of
// entry i is the RFC 6962 hash of the statement's bytes as they are stored.
//
// A checkpoint is a signed note in the form of C2SP tlog-checkpoint:
//
//	rendezvous.example/audit/00112233445566778899aabbccddeeff
//	42
//	2vKQ…base64 of the root…=
//
//	— rendezvous.example/audit/00112233445566778899aabbccddeeff <base64 of key hash ‖ Ed25519 signature>
//
// The first line is the origin and the name of the key (note algorithm 1).
//
// An export is lines of JSON, each an object with one of these, in this order:
//
//	{"format":"tucdesk-audit-export-v1","origin":"…"}
//	{"root":<statement>}                      the team root
//	{"roster":<update>}                       each version, from 1
//	{"agent":{"token","certificate","registration"}}   each host that ever joined
//	{"approval":<statement>}                  right before the entry that names its hash
//	{"index":0,"entry":<statement>}           each entry, from 0
//	{"checkpoint":"<note>"}                   right after the entry that completes its size
//	{"end":42}                                the number of entries
//
// Nothing but the statements and notes is believed; the rest only says where
// things are. Approvals repeat a command as its approver saw it, so an export
// can hold secrets that the entries themselves never do (see redaction).
//
// Source: protocol 5; attacks N.
package audit
