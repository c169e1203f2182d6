// Package session is one remote-access session: sealed datagrams on a link,
// streams inside them, and the channel messages of RFC 4254 inside the streams.
// Both ends use it: the operator through Dial, the agent's session process
// through Accept. Identities were settled before, by crypto/handshake.
//
// # Datagrams
//
// The first datagrams are CONFIRM (type 0xD3, protocol 2.6), which Dial repeats
// until READY arrives. Everything else is sealed (type 0xD8, protocol 2.7). The
// plaintext of a sealed datagram consists of frames and is padded with zeros to
// a multiple of 64 bytes, at most 1,216, or 1,408 or 8,896 where the path carries
// that, so that the length of a datagram does not tell the number of keys pressed.
// Protocol 2.7 asks for that only where a
// person types and for 16 elsewhere; full packets come out the same, so there is
// one rule. Receivers demand a multiple of 16.
//
//	 0   1   3
//	 +---+---+--------+  +---+---+---------+  +-----------+
//	 | t | n | n bytes|  | t | n | n bytes |  | zeros ... |
//	 +---+---+--------+  +---+---+---------+  +-----------+
//
//	type  name     body
//	0x00  padding  none, no length either: the rest of the plaintext is zeros
//	0x01  packet   one packet of internal/transport; at most one per datagram
//	0x02  ready    agent to operator, message 4; see below
//	0x03  rekey    operator to agent: 36 bytes of crypto/seal
//	0x04  rekeyed  agent to operator: 36 bytes of crypto/seal
//	0x05  close    a refusal code in ASCII, at most 32 bytes; empty is a normal end
//	0x06  wanted   agent to operator, empty: the agent's sending key is worn
//	0x90 … 0x93    path checks and candidates; see package path
//
// A type from 0x80 up may be skipped by who does not know it; any other unknown
// type, a length beyond the plaintext, a frame in the wrong direction or bytes
// other than zero in the padding end the session with protocol_error: only the
// peer can have sealed them, so this is no way in for a third party (attack A17).
//
//	ready
//	 0  32  h4 of the handshake: explicit key confirmation
//	32  32  hash of the policy in force
//	64   4  longest duration of the session in seconds, 0 is unlimited
//	68   4  longest pause without input in seconds, 0 is unlimited
//	72   4  longest time without a network in seconds, 0 is 24 hours
//	76   8  number of the agent's last audit entry
//	84  32  its hash
//	116  1  n, length of the rule's name, at most 128
//	117  n  name of the policy rule that allowed the session
//
// # Start
//
// The operator sends CONFIRM and, right behind it, the first packet of the
// transport's handshake, which carries no application data; the first stream is
// opened when READY has come and its h4 is right. So a session costs one round
// trip before data, not two. Both are repeated together, because an agent that
// was not on the relay yet has missed both. The agent keeps up to eight sealed
// datagrams that overtook CONFIRM.
//
// # Channels
//
// One stream is one channel with the semantics and message numbers of RFC 4254,
// section 5. Recipient numbers and windows are missing because the stream is
// both. A message is a length (4 bytes: type and body), a type (1), a body;
// strings have a 4-byte length.
//
//	type  message       body
//	 90   open          type of the channel
//	 91   confirmation  -
//	 92   open failure  refusal code, text
//	 94   data          bytes, at most 32 KiB
//	 95   extended      uint32 1 (stderr), bytes
//	 96   eof           -
//	 97   close         -
//	 98   request       name, then by name:
//	                      pty-req        TERM, columns, rows, width, height (uint32
//	                                     each), modes as in RFC 4254, section 8
//	                      env            name, value
//	                      shell          -
//	                      exec-argv      uint32 count, then each argument
//	                      subsystem      name
//	                      auth-agent-req@openssh.com  -
//	                      window-change  columns, rows, width, height
//	                      signal         name without SIG
//	                      exit-status    uint32
//	                      exit-signal    name, bool core dumped
//	                      refusal        refusal code, text
//	 99   success       answer to shell, exec-argv or subsystem
//	100   failure       refusal code, text: the other answer
//
// Worked example: "ls" on standard output is 00000007 5e 00000002 6c73.
//
// exec-argv replaces "exec": a command is an argument vector, never a string
// for a shell (protocol 4.3).
//
// Channel types are "session", and "control", which exists once per session:
// window-change and signal for a running program travel there, each preceded by
// the 8-byte number of the channel's stream, so that they never wait behind
// data. A channel that carries one connection has no messages behind the answer to
// its opening; see Kind. Any other type is refused by name.
package session
