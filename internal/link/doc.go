// Package link carries datagrams between the two ends of a session, by every way
// there is. It knows nothing about them but their length: they are sealed before
// and opened after. Which way is taken is package path's to say.
//
// # Ways
//
// One UDP socket per address family serves all direct paths and all relays over
// UDP, so that the address where a relay sees us is the one where a direct path
// reaches us. What arrives is told apart by its source, before anything parses
// it:
//
//	from a relay's address   frames, judged by relay/guard
//	from anywhere else       a first byte of d0 to df and 32 to 8,928 bytes are
//	                         handed on, for the seal to open; the rest is counted
//
// Relays over TCP, TLS, DTLS and WebSocket have connections of their own
// (internal/carrier). A slot per relay keeps an allocation on it: all kinds are
// raced, the first whose relay answers allocates (gate), what is lost is dialled again,
// and a better kind replaces a worse one when it gets through. The first two
// relays of the list are kept warm, further ones stand in for those that fail.
//
// # On a relay
//
// pion's TURN client makes the allocation and the permission, and renews them. It
// sits behind relay/guard and is shown nothing but control messages: every frame
// from the relay, and only from there, is checked here first, because the client's
// parser can be crashed by one packet and its relay is not trusted. Data is ours:
//
//	to the relay     4000 len payload   many of one size in one system call
//	from the relay   4000 len payload   many in one system call, not copied
//
// The credential is renewed in place (Link.Renew): one Refresh of our own with
// the new user name and integrity. What pion asks is signed anew as it leaves,
// always with the newest credential. Keep sees to it that this happens in time.
//
// The channel is ours too (keepBound): pion gives up for good when the answers to
// its ChannelBind are lost for a few seconds, and a session without a channel is
// some hundred times slower. Until the channel is bound, data goes inside Send
// indications, which the relay counts as control messages, and may arrive inside
// Data indications.
//
// Round trips to the relay, from credential to the first datagram: none after
// Begin, one after Open. Connections, and the Allocate without credentials that
// brings the challenge, come first and need none (Begin). The signed Allocate, what
// asks for permission and channel, and the first datagrams then leave one behind
// the other, and are answered while these are under way.
//
// # Loss
//
// A UDP socket hears neither of a relay that was killed nor of a NAT that forgot
// us. So when data goes out and nothing comes, the relay is asked (answerDoubts);
// a silent one is dialled anew, which takes our old place over from wherever we
// are now. Changes of the system's addresses and routes, and sleep, are noticed
// (network) and asked after at once.
package link
