// Package worker is the session process: one for each session, run as the target
// user. It allocates on the relay, hands what looks like CONFIRM to its supervisor,
// gets keys when that agreed, and serves the one program that was signed.
//
// It holds no right of its own. The supervisor takes it for hostile, since it may
// come to be run by the bytes of an operator; what it says of a program is the
// user's word.
//
// Source: design 4.1, protocol 2.6, 2.10; attacks E, H.
package worker
