// Package bench measures TucDesk side by side with OpenSSH and mosh, on the same
// emulated link in one run, with the real programs. Ratios of one run mean more
// than figures: whatever the machine was busy with, it was for all of them.
//
// The stage of every row, each host in a network namespace of internal/netlab:
//
//	seat of ssh ------.
//	seat of mosh ------ WAN, 25 ms each way -- internet -- target: sshd, mosh-server, tucdesk-agent
//	seat of tucdesk --'                           |
//	                                             hub: tucdesk-server with its relay
//
// Every client has a seat with a link of its own and of one kind, so that what one
// sends is not in the way of another. Target and hub have wires.
//
// Figures are medians of what was repeated; a subject that cannot be measured says
// why in place of a figure, and the others go on.
package bench
