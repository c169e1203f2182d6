// Package agent is the endpoint: it keeps a machine reachable and decides, by
// itself, who may use it.
//
// The supervisor holds the identity key and the control channel to the
// rendezvous. Nothing the rendezvous says can open a session: for every OPEN the
// supervisor checks the whole chain itself (protocol 2.5) and again when the
// operator has proved its key (CONFIRM), and only then releases keys. Each
// session runs in a process of its own as the target user, so the code that
// handles an operator's bytes is never root and sees no other session's keys.
//
// # State
//
// One folder, mode 0700, made by Join and read by Open:
//
//	identity          the agent's private key (package membership)
//	agent.json        server, fingerprint, join token and certificate (package membership)
//	chain, policy-…   what the agent believes, with clock and fork.json (package trust)
//	ledger            used approvals and requests (package approval)
//	audit.spool       the agent's own audit chain until the server holds it (package audit)
//	witness-*.json    the newest checkpoint seen of each server's log
//	status.json       what `tucdesk-agent status` shows; rewritten, never read back
//
// Source: protocol 2.5, 2.6, 2.11, 3, 4.3, 5.2, 5.3; design 4.1.
package agent
