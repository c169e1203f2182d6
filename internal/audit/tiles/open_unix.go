//go:build unix

package tiles

import "syscall"

// noWait keeps an open from waiting for the other end of a FIFO, from following a link
// and from making a terminal ours.
const noWait = syscall.O_NONBLOCK | syscall.O_NOFOLLOW | syscall.O_NOCTTY
