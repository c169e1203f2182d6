package link

import (
	"github.com/tucdesk/tucdesk/internal/path"
	"github.com/tucdesk/tucdesk/internal/udp"
)

// Buffers; our choice. A joined receive may fill udp.MaxBatch; pages that nothing
// was received into cost no memory. Every reader has batches of its own, so that
// one flow cannot take them from another.
const (
	socketBatches = 4 // of a UDP socket: with the reader, waiting (2), with the caller
	streamBatches = 3
	messages      = 4  // receives per system call
	maxBatches    = 64 // of all readers: two sockets, a stream and its successor per relay
)

// batch is what one receive brought.
type batch struct {
	msgs []udp.Message
	data []Datagram // parts of msgs
	home chan *batch
}

// newBatches returns n batches of so many messages.
func newBatches(n, messages int) chan *batch {
	home := make(chan *batch, n)
	for range n {
		b := &batch{msgs: make([]udp.Message, messages), home: home}
		for i := range b.msgs {
			b.msgs[i].Buf = make([]byte, udp.MaxBatch)
		}
		home <- b
	}
	return home
}

// release gives b back to its reader; there is room for all.
func (b *batch) release() { b.home <- b }

// add takes what one relay or address sent.
func (b *batch) add(v path.Via, payload []byte) {
	if len(payload) > 0 {
		b.data = append(b.data, Datagram{v, payload})
	}
}

// hand passes a batch on and reports whether it has done so. It waits for the
// caller of ReadBatch, as a full socket would, but not before Open or Use: nobody
// reads then, and the answers of the relays come the same way.
func (l *Link) hand(b *batch) bool {
	select {
	case l.full <- b:
		return true
	case <-l.ctx.Done():
	}
	return false
}

// next returns an empty batch for a reader: b itself if it holds nothing worth
// passing on, nil when the link has ended.
func (l *Link) next(b *batch) *batch {
	if len(b.data) == 0 || !l.live.Load() {
		b.data = b.data[:0]
		return b
	}
	home := b.home
	if !l.hand(b) {
		return nil
	}
	select {
	case b = <-home:
		b.data = b.data[:0]
		return b
	case <-l.ctx.Done():
		return nil
	}
}

// Sizes of datagrams that do not come from a relay, in bytes: those of a sealed
// one (protocol 2.7).
const (
	minDirect = 32
	maxDirect = path.Large
)

// isOurs looks at the first byte and the length, no more: what begins like a
// message of the session protocol is opened, and dropped, by the seal.
func isOurs(b []byte) bool {
	return len(b) >= minDirect && len(b) <= maxDirect && b[0]&0xf0 == 0xd0
}
