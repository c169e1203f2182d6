// Package labtest runs the real programs on the hosts of internal/netlab and does
// to the network between them what networks do: translate addresses, close ports,
// lose a relay, change an address in the middle of a transfer, put somebody in
// between who damages, repeats, reflects and redirects. It holds tests only.
//
//	server, relays:  hosts on the internet
//	operator:        tucdesk exec -v MACHINE -- cat, behind a NAT of the test's choice
//	machine:         tucdesk-agent, behind another
//
// What is typed must come back, every byte, once and in order; which way it went
// is read from the packets on the relays' links, not from what a program says.
// Bounds of time here are generous, because these tests share a processor with
// others: how fast things are is measured by internal/bench.
//
// The tests need what internal/netlab needs: Linux and root. They are skipped
// without, but fail where the variable CI is true.
//
// Source: attacks A and M, the rows of a man in the middle and of a network
// (docs/PROTOCOL.md 2.7, Roaming, and 6).
package labtest
