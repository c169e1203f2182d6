// Package seal opens and seals the datagrams of one session (protocol 2.7).
//
//	 0   1  type 0xD8
//	 1   1  key epoch, low 8 bits
//	 2   2  zero
//	 4   4  receive index of the receiver
//	 8   8  counter, from 0, one more for each datagram of a direction and epoch
//	16   n  ciphertext, AES-256-GCM; AAD is bytes 0 to 15
//	16+n 16 tag
//
// The nonce is the IV of the direction XOR (4 zero bytes ‖ counter). The counter
// lives only in the sealing object, is read and raised in one step, and sealing
// fails before a key's limit instead of wrapping (attacks A12, A13).
//
// Receivers drop what does not open, count it and answer nothing: anybody can
// send datagrams to a known index. A datagram that is reflected, sent the other
// way, sent into another session or epoch, or altered in any bit does not open,
// since each has another key, IV or AAD (attacks A1, A2, A8 to A11).
//
// # Rekey
//
// Only the operator starts; both payloads travel in frames inside the channel
// and have one layout:
//
//	0   4  epoch that begins
//	4  32  fresh X25519 key, E_o' in the request, E_a' in the answer
//
//	new block = HKDF(X25519(E_o', E_a') ‖ chain, salt = H(h4 ‖ request ‖ answer), info = L, 152)
//
// h4 is that of the handshake in every epoch; chain is the last part of the
// block of the epoch before. The steps:
//
//	operator                                agent
//	StartRekey ---- request (old epoch) --> AnswerRekey: opens both epochs, seals old
//	FinishRekey <-- answer (old epoch) ----
//	  opens both epochs, seals new
//	  ------------ first of new epoch ----> seals new; old one has 10 s or 2,048 datagrams
//	  <----------- first of new epoch -----
//	  old one has 10 s or 2,048 datagrams
//
// So no side seals in an epoch that the other cannot open yet, and the end of
// the old epoch starts only when the peer has shown that it uses the new one: on
// a long fast path more than 2,048 old datagrams may be under way.
package seal
