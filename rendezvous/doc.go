// Package rendezvous is the server that introduces operators and agents: login,
// registry, policy, approvals, audit, and the control channel of every agent.
//
// It may deny, route, count, record and delay. It can never allow: it holds no
// owner, enroller, operator or approver key, and an agent checks the whole chain
// of signatures itself (protocol 3.1). What is checked here is checked to refuse
// early, to protect the service, and to keep teams apart.
//
// A call passes these checks, in this order, and the first that fails answers:
//
//	rate of the source          calls without a token only
//	request target              plain characters, exact match with a route
//	JWT                         once, in the Authorization header; package principal
//	rate of the key             one operator cannot take the service from others
//	roster                      the key is in it now; its role of now counts, not the token's
//	body                        announced length, size limit of the route, JSON only, in time
//	proof                       protocol 4.2, on every route that changes or exports something
//	the handler's own           strict JSON, team-scoped look-ups, policy
//
// The team comes from the verified token or registration, as a principal.TeamID;
// no request type has a team field that is read (attack C16).
//
// Files: config and create make a server; gate and proof are the way into a
// handler; routes is the table of handlers; team holds the teams of this process;
// request is the queue of approvals; control and register are the agents' side.
// Packages below know nothing of the server: identity its keys, chain the rosters of a
// team, channel the frames of one agent's connection, strict how bodies are read,
// problem how refusals are answered, rate how callers are counted, live which sessions
// can be cut.
//
// Source: design 6, protocol 2.11, 3, 4.2, 4.3.
package rendezvous
