// Package relay is a blind TURN relay for pairs: what one side of a session
// sends, the other side receives, and nothing else can be reached (design 5,
// protocol 6). It sees sealed datagrams, two addresses, sizes and times; it
// imports nothing that could open a session.
//
// # Paired mode
//
// A client allocates with a credential whose user name holds a random pair and a
// role. The relay opens no socket for the allocation. Whatever a client sends
// goes to the allocation of the same pair and the opposite role, or nowhere;
// peer addresses are only names. Both sides name the same one,
// guard.PeerAddr (192.0.2.1:9), and bind it to the same channel,
// guard.Channel (0x4000):
//
//	operator                         relay                          agent
//	  | Allocate v1.<t>.<pair>.o ----->| <----- Allocate v1.<t>.<pair>.a |
//	  | ChannelBind 4000 192.0.2.1:9 ->| <- ChannelBind 4000 192.0.2.1:9 |
//	  | 4000 len payload ------------->| 4000 len payload -------------> |
//
// So ChannelData is forwarded without a change, and on UDP without leaving the
// buffers in which the kernel delivered it: many datagrams in, many out, one
// system call each way. SSRF, open proxy and reflection to third parties are
// impossible because there is no socket to do them with (attacks M1 to M3).
//
// # Transports
//
// Frames come over UDP, TCP, TLS, DTLS and WebSocket (relay/hop). All feed one table
// and one way of forwarding, so the ends of a pair may use different ones. Only plain
// UDP has no connection; on the others a bounded amount is queued for a client, and
// then dropped, as in a network.
//
// # Taking a place over
//
// A user, which is a pair and a role, has one allocation. An end that has moved, or
// whose transport has died, dials again before the relay has noticed; so the newest
// allocation proved with the user's credential takes the place of the old one at
// once, and inherits its channel and what it has used of its quota (table.go).
//
// What may a thief do with a credential? It is known to its end, the rendezvous and
// this relay; on the wire is only what it has signed. He gets the place, and with it
// sealed datagrams that he cannot open, which whoever sits on the path sees anyhow,
// and can send the other end datagrams that do not open. The owner loses the path
// until it dials again, and takes the place back. Take-overs are limited, so the two
// do not load the relay; their session goes on over another relay or directly. In
// short: denial, no reading, no forging.
//
// Who has only recorded an Allocate has nothing: the challenge it answers is bound to
// the address it came from (nonce.go), and must be newer than the user's newest
// allocation. By the same rule the first of several dials side by side stays.
//
// # Parts
//
// pion/turn answers the control traffic, behind relay/guard, through a packet
// connection that is ours (front.go): one instance for all of UDP and one for
// each connection of the other transports. It never sees ChannelData in paired mode
// and logs nothing. Allocations, quotas and pairing are in table.go, the fast path in
// datagram.go, connections in stream.go and web.go.
//
// Lab mode (Config.Lab, "tucdesk-relay --allow-peer") opens real relay sockets for
// interoperability tests with foreign TURN tools, to listed networks only, and is not
// for production.
package relay
