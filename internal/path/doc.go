// Package path decides which ways the datagrams of a session take: it finds
// direct paths, checks them, chooses one, notices when it dies and leaves it.
// It is pure: no sockets, no clock, no goroutines. The session feeds it with what
// happened and sends what it asks for (protocol 2.7, Roaming).
//
// # Frames
//
// Path frames travel only inside sealed datagrams, so nobody but the peer can
// have written them and no relay or server reads an address. The bodies:
//
//	0x90 challenge        0   8  token
//	0x91 response         0   8  token of the challenge
//	                      8  16  address that the challenge came from
//	                     24   2  its port; address and port are zero when it came
//	                             through a relay
//	0x92 candidates       0   4  sequence, from 1, one more for every other list
//	                      4   1  n, at most 16
//	                      5  19n n candidates: kind (1), address (16), port (2)
//	0x93 candidates seen  0   4  sequence
//
// Addresses are IPv6 or IPv4-mapped. Kinds are 1 host, 2 reflexive, 3 mapped,
// 4 configured. A body of another length, or another kind, is malformed. A
// worked example: one host candidate 192.0.2.1:4242 in list 1 is
//
//	00000001 01 01 00000000000000000000ffffc0000201 1092
package path
