// Package hop protects the way between an endpoint and a relay: TLS 1.3 over TCP
// and DTLS 1.2 over UDP, both with one key whose hash the client knows
// beforehand. It knows nothing of sessions, credentials or TURN.
//
// What travels here is sealed end to end already. The hop hides the TURN
// messages and what the traffic is from the network in between, and lets through
// firewalls that know only TLS. It is no part of a session's secrecy.
//
// # The key
//
// A relay makes one ECDSA P-256 key, once (Create), and signs a certificate with
// it at every start. Clients compare the SHA-256 of the SubjectPublicKeyInfo with
// the pin in their grant (protocol 6.5) and look at nothing else: no name, no
// authority, no date.
//
// # DTLS
//
// pion/dtls v2 is frozen and, as it comes, unsafe: its AES suites draw record
// nonces at random, its listener can be stopped by one datagram, its sessions
// ended by another. Three things of ours close that (dependencies, 1.4):
//
//   - suite.go: TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 (0xCCA9, RFC 7905)
//     is the only suite offered and accepted. Its nonce is the sequence number,
//
//     nonce = write IV xor (4 zero bytes, epoch (2), sequence number (6))
//     data  = epoch (2), sequence number (6), type (1), version (2), length (2)
//
//     so none repeats: the library refuses sequence numbers above 2^48-1, which
//     at a million records a second are reached in nine years. Hence, unlike with
//     the random nonces, no cap on records and no reconnecting.
//
//   - listener.go: half-open handshakes are capped in number, bytes and time, each
//     runs by itself, and nothing but Close ends the listener (Z2, Z3, Z5).
//
//   - filter.go: what reaches the library has been looked at record by record
//     (Z4, Z5).
package hop
