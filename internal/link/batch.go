package link

import (
	"sync/atomic"

	"github.com/tucdesk/tucdesk/internal/path"
	"github.com/tucdesk/tucdesk/internal/udp"
)

// Buffers of one reader; our choice. A joined receive may fill udp.MaxBatch; pages
// that nothing was received into cost no memory.
const (
	batches  = 3 // with the reader, waiting, with the caller of ReadBatch
	messages = 4 // receives per system call
)

// batch is what one receive brought.
type batch struct {
	msgs []udp.Message
	data []Datagram  // parts of msgs
	home chan *batch // where it goes back to
}

func (b *batch) add(v path.Via, payload []byte) {
	if len(payload) > 0 {
		b.data = append(b.data, Datagram{v, payload})
	}
}

// newBatches makes the buffers of one reader.
func newBatches() chan *batch {
	home := make(chan *batch, batches)
	for range batches {
		b := &batch{msgs: make([]udp.Message, messages), home: home}
		for i := range b.msgs {
			b.msgs[i].Buf = make([]byte, udp.MaxBatch)
		}
		home <- b
	}
	return home
}

// inbox is where readers put batches and ReadBatch takes them.
type inbox struct {
	full chan *batch
	open atomic.Bool   // somebody reads: batches may wait for him
	done chan struct{} // closed when the link ends
}

// put hands b over, and the next empty batch back. It waits for the caller of
// ReadBatch, as a full socket would, but not before there is one: answers to pion
// come the same way. Without a reader the data is lost and b comes back. It
// returns nil when the link has ended.
func (i *inbox) put(b *batch) *batch {
	select {
	case i.full <- b:
	default:
		if !i.open.Load() {
			return b
		}
		select {
		case i.full <- b:
		case <-i.done:
			return nil
		}
	}
	select {
	case next := <-b.home:
		return next
	case <-i.done:
		return nil
	}
}
