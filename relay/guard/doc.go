// Package guard is the strict parser that stands in front of pion/turn, on the
// relay and on both endpoints. It imports neither pion nor any cryptography: it
// looks at shapes only, so it can be read and fuzzed on its own.
//
// pion/turn v2 and the STUN library under it are frozen and have defects that a
// stranger can reach with one packet: a frame length that wraps at 16 bits and
// makes a stream reader spin, an address attribute of length zero that panics
// the process on the relay and on a client. The guard lets only
// frames through whose every length it has checked itself, so that those
// defects cannot be reached (protocol 6.3; attacks M4, M5).
//
// # Frames
//
// Two kinds of frame share one socket and are told apart by the first two bits.
//
//	STUN message (RFC 8489), first bits 00
//	   0      2      4            8                        20
//	   +------+------+------------+------------------------+-----------
//	   | type | len  | 2112a442   | transaction id         | attributes
//	   +------+------+------------+------------------------+-----------
//	   len counts the attributes only and is a multiple of four.
//	   An attribute is type (2), length (2), value, padding to four.
//
//	ChannelData (RFC 8656, section 12.4), first bits 01
//	   0         2      4
//	   +---------+------+----------------+---------
//	   | channel | len  | payload        | padding
//	   +---------+------+----------------+---------
//	   len counts the payload only. The padding to four is
//	   compulsory on a stream and optional in a datagram.
//
// Worked example: the payload "hello" on channel 0x4000 is
//
//	40 00 00 05 68 65 6c 6c 6f            in a datagram
//	40 00 00 05 68 65 6c 6c 6f 00 00 00   on a stream
//
// # What it offers
//
// Check judges one frame; Side.Check also asks whether a server, or a client,
// has any business receiving it. Readers of UDP sockets ask it for each datagram,
// when they have looked where it is from; NewConn and NewListener put it in front
// of streams, NewDatagrams in front of DTLS. Paired is the further rule of
// the paired relay: one peer, one channel (protocol 6.1). Everything that is
// refused is dropped in silence and counted in Stats by its reason.
package guard
