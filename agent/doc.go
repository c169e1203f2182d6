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
// # Between supervisor and session process
//
// One socket pair, descriptor 3 of the child (on Windows two pipes, descriptors 0
// and 1). The supervisor takes the child for hostile: it may be run by the bytes
// of an operator. Frames, integers big-endian:
//
//	0  1  type
//	1  4  length of the body
//	5  n  body
//
//	type  name       direction   limit    body
//	1     job        to child    256 KiB  JSON: what to do, relay credentials
//	2     keys       to child    8 KiB    length (2) and export of the keys, then JSON: what READY says
//	3     rejected   to child    0        that CONFIRM was not good; keep waiting
//	4     end        to child    64       refusal code: end the session
//	5     relay      to child    4 KiB    JSON: the next relay credential, for the same relay
//	16    confirm    to parent   512      a CONFIRM datagram
//	17    started    to parent   4 KiB    JSON: the program that was started
//	18    exited     to parent   4 KiB    JSON: how it ended, byte counts
//	19    closed     to parent   256      JSON: why the session ended
//
// The child allocates on the relay while the operator's ACCEPT is still on its
// way, and knows no key until the supervisor has checked CONFIRM. The supervisor
// asks the rendezvous for the next relay credential in time, as only it has the
// control channel (protocol 6.2). When the pair closes, for whatever reason, the
// child ends its program and itself.
//
// Source: protocol 2.5, 2.6, 2.11, 3, 4.3, 5.2, 5.3; design 4.1.
package agent
