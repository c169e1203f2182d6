// Package rendezvous is the server that introduces operators and agents: login,
// registry, policy, approvals, audit, and the control channel of every agent.
//
// It may deny, route, count, record and delay. It can never allow: it holds no
// owner, enroller, operator or approver key, and an agent checks the whole chain
// of signatures itself (protocol 3.1). What is checked here is checked to refuse
// early, to protect the service, and to keep teams apart.
//
// The team comes from the verified token or registration, as a principal.TeamID;
// no request type has a team field that is read (attack C16).
//
// Files: config and create make a server; server puts it together; routes is the table
// of handlers; sweep is what happens unasked. Packages below know nothing of the server:
// gate is the way into a handler, sessions how one is opened, requests what waits for
// people, lease what sessions show to relays, agents what machines say and are told,
// rosters how a new one is published,
// team holds the teams of this process, logbook what their logs say, identity the
// server's keys, chain the rosters of a team, channel the frames of one agent's
// connection, strict how bodies are read, problem how refusals are answered, live which
// sessions can be cut.
//
// Source: design 6, protocol 2.11, 3, 4.2, 4.3.
package rendezvous
