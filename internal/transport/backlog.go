package transport

import (
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// The library queues 256 packets that its connection has not looked at, and drops
// what comes then, although it has been opened already. Reading is quicker than
// handling, so whatever has gathered in a socket while this process had no
// processor would overflow that queue, and the peer would take it for congestion:
// 64 packets lost on an empty link, and a third of the rate with them. So the
// reader waits. What it does not read, the socket holds. Our choice.
const (
	backlogMost = 192                   // packets; those of one more read, 8, fit as well
	backlogLook = 50 * time.Microsecond // how often the reader looks whether it may go on
	backlogWait = 100 * time.Millisecond
)

// backlog is how far the connection is behind the reader, who alone uses it but
// for conn.
type backlog struct {
	conn  atomic.Pointer[quic.Conn] // nil while connecting
	given uint64                    // bytes handed to the library so far
	lost  uint64                    // of them, those that it will never count
	marks [backlogMost]uint64       // given after each of the last packets, a ring
	next  int                       // place in it, of the oldest
}

// add notes a packet of n bytes that the library gets.
func (b *backlog) add(n int) {
	b.given += uint64(n)
	b.marks[b.next] = b.given
	b.next = (b.next + 1) % len(b.marks)
}

// wait returns when fewer than backlogMost packets are in the queue. After
// backlogWait the count must be wrong: the library has dropped packets that it did
// not know what to do with.
func (b *backlog) wait() {
	c := b.conn.Load()
	if c == nil {
		return
	}
	for range backlogWait / backlogLook {
		done := c.ConnectionStats().BytesReceived + b.lost
		if done > b.given {
			b.lost -= min(b.lost, done-b.given)
		}
		if done >= b.marks[b.next] || c.Context().Err() != nil {
			return
		}
		time.Sleep(backlogLook)
	}
	b.lost = b.given - min(b.given, c.ConnectionStats().BytesReceived)
}
