// Package master lets a process of ours that stays do what the next ones ask for:
// it keeps connections warm between commands that a script runs one after another
// (docs/decisions/0020-a-master-for-execs.md).
//
// # The socket
//
//	STATE/master.sock      mode 0600, in the folder that has the operator's key
//
// Whoever can connect to it could read the key beside it, so there is nothing more
// to prove. One process at a time serves it; a lock on STATE/master.lock says which.
//
//	client  4 bytes length, JSON of the job; with its first byte the descriptors
//	        of standard input (a pipe), output and error
//	master  4 bytes length, JSON {"status":N}, or {"no":true}: run it yourself
//
// A client that goes ends its job.
package master
