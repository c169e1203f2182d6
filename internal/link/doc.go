// Package link carries datagrams between the two ends of a session, by every way
// there is. It knows nothing about them but their length: they are sealed before
// and opened after, and which way they take is package path's choice.
//
//	                     +-- allocation on relay 1, over UDP ----.
//	Link -- host, IPv4 --+-- allocation on relay 2, over UDP     +-- relay.example:3478
//	     |               '-- direct datagrams, from anywhere ----'
//	     +- host, IPv6 ...
//	     '- connection to a relay: TCP, TLS, DTLS or WebSocket (package carrier)
//
// One UDP socket per family serves all relays over UDP and all direct paths, so
// that the address which a relay sees is the one where the other end can reach us.
// What arrives is told apart by its source before anything parses it: frames of a
// relay go to the guard, and of what others send only the first byte and the length
// are looked at here.
//
// # A relay
//
// A slot keeps one allocation on one relay. It dials the kinds in the order UDP, TCP,
// TLS, DTLS, WebSocket, each 40 ms after the one before, the kind that worked last in
// this network first. Only one of them allocates at a time, because the relay gives a
// place to whoever asked last: as soon as the relay has said anything over UDP, UDP
// it is; a connection that stands while UDP is still silent is taken instead. While
// another kind is in use UDP is tried again every minute. What is lost is dialled
// again, with pauses from 250 ms to 30 s, at once when the addresses of this machine
// change. The first two relays of the list are kept ready, and the next ones when
// these fail; both ends count from the front, so they meet.
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
// always with the newest credential. Keep sees to it that this happens in time. The
// same Refresh tells whether an allocation is still there (Link.Recheck): a relay
// that was restarted does not say so by itself.
//
// The channel is ours too (keepBound): pion gives up for good when the answers to
// its ChannelBind are lost for a few seconds, and a session without a channel is
// some hundred times slower. Until the channel is bound, data goes inside Send
// indications, which the relay counts as control messages, and may arrive inside
// Data indications.
//
// Round trips to the relay, from credential to the first datagram: Allocate
// without and with credentials, CreatePermission; three. ChannelBind is the
// fourth and under way while the first datagrams are.
package link
