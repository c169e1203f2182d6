// Package endtoend tests the real programs against each other: server, relay,
// agent and operator as processes of their own, over sockets on loopback, driven
// as people drive them. It holds tests only.
//
// What must work is typed and its output compared. What must fail is done to it:
// a rendezvous that lies (it has every key that a real one has), a relay that
// damages, drops, repeats and mixes what it forwards, processes that are killed.
// Each attack ends in a refusal with its name, in nothing that ran, and in a line
// of the machine's own log.
//
// The tests need Linux: they look into /proc and tie children to their parent.
//
// Source: attacks A to H, K5 and N1 at the level of processes; protocol 2 to 5.
package endtoend
