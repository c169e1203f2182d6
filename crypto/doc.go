// Package crypto is the folder of the session protocol TDS1; it holds this text
// only and is never imported.
//
//	key        Ed25519 identities, one type for each role       protocol 2.1, 2.9
//	statement  the one envelope for everything that is signed    protocol 4.1
//	replay     what was seen once is not taken again             protocol 2.8
//	handshake  OPEN, ACCEPT, CONFIRM: two identities, one secret protocol 2.2-2.6
//	seal       datagrams under that secret, limits, rekey        protocol 2.7
//
// The construction is SIGMA-I, as in TLS 1.3 and IKEv2: ephemeral X25519 (with
// ML-KEM-768 beside it where both sides have it), then each side signs the
// transcript under keys of that exchange. There is no static Diffie-Hellman,
// no null cipher, and no way from here to a session that is not sealed.
//
// Vectors: protocol 2.12, checked to the byte by TestWorkedVector of handshake
// and TestWorkedVectorFirstDatagram of seal. Outside suites: Wycheproof, run by
// TestWycheproof of seal through the primitives as we call them.
package crypto
