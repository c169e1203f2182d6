// Package link carries datagrams between the two ends of a session. It knows
// nothing about them but their length: they are sealed before and opened after.
//
// There is one kind of path, by way of the relay that the credential names
// (design 5, protocol 6.1): over UDP, or over TCP where UDP does not come back.
// UDP is tried first; TCP joins in 300 ms later, and whichever has allocated
// first stays. Path is the internal unit for the direct paths to come.
//
// # On the relay
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
// Round trips to the relay, from credential to the first datagram: Allocate
// without and with credentials, CreatePermission; three. ChannelBind is the
// fourth and under way while the first datagrams are.
package link
