// Package handshake is the key exchange of a session: OPEN, ACCEPT, CONFIRM
// (protocol 2.2 to 2.6). It is SIGMA-I: two ephemeral X25519 keys make a secret,
// then each side shows its Ed25519 identity with a signature over the transcript,
// sealed under keys of that secret.
//
// Messages; integers are big-endian, hashes SHA-256, L = "tucdesk-session-v1":
//
//	M1 OPEN, operator to agent, 120 bytes (+ 1,184)
//	   0    1  type 0xD1
//	   1    1  version 0x01
//	   2    2  first offered suite
//	   4    4  operator's receive index, not zero
//	   8   16  session id
//	  24   32  hash of the signed session request
//	  56   32  hash of the roster the operator knows
//	  88   32  E_o, X25519
//	 120 1184  ek, ML-KEM-768, only when the first offered suite is 0x0002
//
//	M2 ACCEPT, agent to operator, 128 (+ 1,088) + 120 bytes
//	   0    1  type 0xD2
//	   1    1  version 0x01
//	   2    2  chosen suite
//	   4    4  operator's receive index
//	   8    4  agent's receive index, not zero
//	  12    4  zero
//	  16   16  session id
//	  32   32  hash of the grant the agent received
//	  64   32  hash of the roster the agent verified
//	  96   32  E_a, X25519
//	 128 1088  ML-KEM-768 ciphertext, only when the chosen suite is 0x0002
//	   …  120  sealed: agent kid 32, sig_a 64, suite bitmap 4, flags 4, tag 16
//
//	M3 CONFIRM, operator to agent, 120 bytes, the first datagram
//	   0    1  type 0xD3
//	   1    1  version 0x01
//	   2    2  chosen suite
//	   4    4  agent's receive index
//	   8  112  sealed: operator kid 32, sig_o 64, tag 16
//
// Suite 0x0001 is X25519; 0x0002 adds ML-KEM-768 in front of it. Bit n of the
// suite bitmap stands for suite n+1. An operator that offers the hybrid sends
// its ek; the agent answers with the best suite both have, and because the
// chosen suite is in h0 and the bitmap is sealed with the signature, nobody on
// the way can lower it (attack B7).
//
// What the caller does before Accept is written in protocol 2.5: replay cache,
// roster, request and grant, policy, approvals. This package knows keys and
// bytes, no trust.
package handshake
