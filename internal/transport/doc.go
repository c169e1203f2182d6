// Package transport makes ordered streams and unreliable datagrams out of
// sealed datagrams. Its only job is framing: retransmission, order, flow and
// congestion control. It knows no identities, and nothing about its own
// encryption is relied on: whatever enters or leaves it is inside the sealed
// session of protocol 2.7, which has proved both ends before the first packet.
//
// It is quic-go on a packet connection that hands packets to Packets, the
// sealed side. The library must be replaceable (its only congestion control is
// Reno, weak on lossy long paths), so nothing of it leaves this package: no
// type, no error, no option.
//
// # The inner TLS
//
// QUIC has no mode without TLS. Each session has two throw-away Ed25519
// certificates, one for each end, that both ends derive from the session's
// exporter secret (protocol 2.6):
//
//	seed of an end = HKDF-SHA256(secret = exporter, no salt,
//	                 info = "tucdesk-transport-v1 operator" or "… agent", 32 bytes)
//
// Everything else in them is constant and Ed25519 signatures are deterministic,
// so both ends hold the same bytes without sending them: each demands exactly
// the other's certificate, which only a holder of the session's secrets can use.
// There is no second identity to manage, nothing to pin and no verification
// that could be switched off.
//
// # Sizes
//
// A packet is at most PacketSize bytes, QUIC's smallest first packet, and grows
// never: path MTU discovery is off, because the path below belongs to
// internal/link and a larger size must be proved there first (design 4.2).
//
// # Cost
//
// Packets travel in batches in both directions: up to 16 of equal size to one
// WritePackets, up to 8 from one ReadPackets, which reads straight into the
// library's buffers. On Linux the library is made to batch by telling it that
// the kernel can segment; see packetconn_linux.go.
package transport
