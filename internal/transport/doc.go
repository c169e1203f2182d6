// Package transport makes ordered streams out of sealed datagrams: framing,
// retransmission, order, flow and congestion control. It knows no identities and
// encrypts nothing: whatever enters or leaves it is inside the sealed session of
// protocol 2.7, which has proved both ends before the first packet, and which lets
// nothing in that the peer did not send, nor the same thing twice. Both ends have agreed
// on its version by then (wire.SessionProtocol): raise that with whatever an older end
// would not understand. So a packet that
// breaks the format or a limit is the peer's doing, and ends the connection.
//
// # Packets
//
// A packet has at most PacketSize bytes, and up to LargePacket where the path carries
// that: a head, then frames. Numbers are varints: 7 bits to a byte, lowest first, in the
// fewest bytes, below 2^62.
//
//	type    1 byte: 0x40, or 0x41 if the sender waits for an acknowledgement
//	number  of the packet, from 0, none twice; some are left out, see recovery.catches
//	back    number - the lowest one that the sender still wants acknowledged
//
//	0x00  padding          the rest is zeros
//	0x01  PING             -
//	0x02  ACK              largest, delay in µs, n, length-1, n x (gap-1, length-1); once
//	0x03  CLOSE            -
//	0x04  RESET            stream, code (4 bytes), final offset
//	0x05  STOP             stream, code (4 bytes)
//	0x06  MAX_DATA         limit of all streams' bytes
//	0x07  MAX_STREAM_DATA  stream, limit of its offset
//	0x08  MAX_STREAMS      how many streams may be opened in all
//	0x10  STREAM           stream, offset, length if bit 0x02, data; bit 0x01 is the end
//
// Worked example: packet 5 with "hi" and the end of stream 0 is
// 40 05 05 13 00 00 02 68 69.
//
// # Parts
//
// One goroutine reads (inbound.go), one sends (outbound.go); a lock for the
// connection guards everything and is held across no I/O. recovery.go remembers what
// was sent and decides what is lost, timers.go does what time has made due, model.go
// decides how fast to send, acks.go what to acknowledge and when.
package transport
