// Package seal opens and seals the datagrams of one session (protocol 2.7).
//
//	 0   1  type 0xD8, or 0xD9 for control datagrams (below)
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
//
// # Resume
//
// A key is used for data for 15 minutes at most, but a machine sleeps for hours
// and its session is to be there when it wakes. So every epoch has a second pair
// of keys, for control datagrams (type 0xD9, counters of their own):
//
//	resume block = HKDF(chain, salt = h4, info = L ‖ " resume", 88)
//	0  key and IV operator to agent (32, 12), 44  agent to operator (32, 12)
//
// At the hard age Seal refuses with ErrAged and the data keys of the epoch are
// erased, the receiving one 10 s later. What stays is the chain and the control
// keys, and SealControl, which carries the frames of a rekey and of the search
// for a path and nothing else, in at most 2^16 datagrams of 512 bytes, until the
// epoch is as old as AllowResume says, at most 24 hours. Then everything is
// erased. Why keys of their own, and not the aged ones for a little longer: who
// takes the memory of a machine that sleeps finds nothing that opens a datagram
// recorded before. He does find what the next epoch is agreed with; whoever
// resumes without signing again has to keep that, and 24 hours is for how long.
//
// The ends need not agree on the time. An end that is awake ages alone; one that
// slept notices by the clock on the wall, since monotonic clocks mostly stand
// still in a sleeping machine; and if it does not (the clock was set back), the
// first control datagram of the other end tells it: nobody seals one under a key
// that is young enough for data, so whoever opens one marks the epoch as aged as
// well, and both stop in it at once. An old copy cannot do harm, as an epoch that
// has aged never carries data again, on whatever clock. An epoch that the agent
// agreed to and the operator has not used yet has no age: nothing was sealed
// under it, and after lost datagrams it may be the only one both know.
package seal
