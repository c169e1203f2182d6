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
// # Parts
//
// pion/turn answers the control traffic, behind relay/guard, through a packet
// connection that is ours (front.go): one instance for all of UDP and one for
// each stream connection. It never sees ChannelData in paired mode and logs
// nothing. Allocations, quotas and pairing are in table.go, the fast path in
// datagram.go, streams in stream.go.
//
// Lab mode (Config.Lab) opens real relay sockets for interoperability tests with
// foreign TURN tools, to listed networks only, and is not for production.
package relay
