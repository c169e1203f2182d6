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
// of handlers; setup and login are for those whom no roster has vouched for yet; sweep is
// what happens unasked. Packages below know nothing of the server. Calls come by way of
// gate to sessions (how one is opened), requests (what waits for people), lease (what
// sessions show to relays), rosters (how a new one is published), logview (what people
// see of the log) and agents (what machines say and are told). Below those, team holds
// the teams of this process, logbook what their logs say, live which sessions can be cut,
// chain the rosters of a team, channel the frames of one agent's connection, bus who is
// connected, identity the server's keys; strict is how bodies are read, problem how
// refusals are answered.
//
// Source: design 6, protocol 2.11, 3, 4.2, 4.3.
package rendezvous
