package link

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/tucdesk/tucdesk/internal/udp"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// socket is one connection to a relay.
type socket interface {
	// receive waits for frames and puts them into b, checked by their source
	// but not by their contents. An error is final.
	receive(b *batch) error
	// segments sends ChannelData frames of size bytes that lie in b.
	segments(b []byte, size int) error
	// frame sends one control message.
	frame(b []byte) error
	close()
}

// Buffers of one path; our choice. A joined receive may fill udp.MaxBatch; pages
// that nothing was received into cost no memory.
const (
	batches  = 4 // with the reader, waiting (2), with the caller
	messages = 4 // receives per system call
)

// batch is what one receive brought.
type batch struct {
	msgs   []udp.Message
	frames [][]byte // parts of msgs
	data   [][]byte // the payloads among them

	strangers int // datagrams that did not come from the relay
}

func newBatch() *batch {
	b := &batch{msgs: make([]udp.Message, messages)}
	for i := range b.msgs {
		b.msgs[i].Buf = make([]byte, udp.MaxBatch)
	}
	return b
}

// path is one way to the other end: a socket with an allocation on it.
type path struct {
	sock  socket
	info  Info
	log   *slog.Logger
	stats guard.Stats
	turn  *turnClient

	questions questions
	slow      allowance // of Send indications

	full chan *batch
	free chan *batch
	held *batch // by the caller of read

	ready atomic.Bool   // established: data may wait for its reader
	bound atomic.Bool   // the channel is bound, keepBound says: data goes out as ChannelData
	done  chan struct{} // closed when the path ends
	err   error         // why; written before done is closed
	once  sync.Once     // fail
	wg    sync.WaitGroup
}

func newPath(sock socket, info Info, log *slog.Logger) *path {
	p := &path{
		sock: sock, info: info, log: log,
		turn: newTurnClient(),
		full: make(chan *batch, batches-2), free: make(chan *batch, batches), done: make(chan struct{}),
	}
	for range batches {
		p.free <- newBatch()
	}
	p.wg.Go(p.receive)
	return p
}

// receive is the path's reader.
func (p *path) receive() {
	b := <-p.free
	for {
		b.frames, b.data = b.frames[:0], b.data[:0]
		if err := p.sock.receive(b); err != nil {
			p.fail(err)
			return
		}
		for ; b.strangers > 0; b.strangers-- {
			p.stats.Count(guard.WrongSource)
		}
		for _, f := range b.frames {
			p.sort(b, f)
		}
		if len(b.data) == 0 || !p.hand(b) {
			continue
		}
		select {
		case b = <-p.free:
		case <-p.done:
			return
		}
	}
}

// hand passes a batch on. It waits for the caller of read, as a full socket
// would, but not while the path is being established: nobody reads then, and
// the answers to pion come the same way.
func (p *path) hand(b *batch) bool {
	select {
	case p.full <- b:
		return true
	default:
	}
	if !p.ready.Load() {
		return false
	}
	select {
	case p.full <- b:
		return true
	case <-p.done:
		return false
	}
}

// sort puts the payload of a frame into b, or shows the frame to pion.
func (p *path) sort(b *batch, frame []byte) {
	err := guard.Client.Check(frame)
	if err != nil {
		var r guard.Reason
		if errors.As(err, &r) {
			p.stats.Count(r)
		}
		return
	}
	if guard.IsChannelData(frame) {
		n, payload, err := guard.ParseChannelData(frame)
		if err != nil || n != guard.Channel {
			p.stats.Count(guard.NotPaired)
			return
		}
		b.add(payload)
		return
	}
	if guard.TypeOf(frame) == guard.DataIndication {
		payload, _ := guard.Find(frame, guard.AttrData)
		b.add(payload)
		return
	}
	p.control(frame)
}

func (b *batch) add(payload []byte) {
	if len(payload) > 0 {
		b.data = append(b.data, payload)
	}
}

// minLifetime is the shortest allocation, in seconds, that we take. pion renews
// after half of it: with zero it would spin.
const minLifetime = 60

// control shows pion an answer of the relay, unless the question was ours.
func (p *path) control(frame []byte) {
	t := guard.TypeOf(frame)
	if t == guard.AllocateSuccess {
		v, ok := guard.Find(frame, guard.AttrLifetime)
		if !ok || binary.BigEndian.Uint32(v) < minLifetime {
			p.stats.Count(guard.BadAttribute)
			return
		}
	}
	p.turn.identity.learn(frame)
	if p.questions.answer(frame) {
		return
	}
	p.turn.handle(frame)
}

// write sends datagrams, by channel as soon as there is one.
func (p *path) write(b []byte, size int) error {
	select {
	case <-p.done:
		return p.err
	default:
	}
	if p.bound.Load() {
		for frame := range udp.Segments(b, size) {
			guard.PutChannelHeader(frame, guard.Channel, len(frame)-Headroom)
		}
		return p.sock.segments(b, size)
	}
	for frame := range udp.Segments(b, size) {
		if err := p.indicate(frame[Headroom:]); err != nil {
			return err
		}
	}
	return nil
}

func (p *path) read(ctx context.Context) ([][]byte, error) {
	if p.held != nil {
		p.free <- p.held // never blocks: there is room for all
		p.held = nil
	}
	select {
	case b := <-p.full:
		p.held = b
		return b.data, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.done:
		return nil, p.err
	}
}

// fail ends the path without waiting for its goroutines.
func (p *path) fail(err error) {
	p.once.Do(func() {
		p.err = err
		close(p.done)
	})
}

// close frees the allocation and waits for the path's goroutines.
func (p *path) close() {
	// 1. No more data.
	p.fail(errDone)
	// 2. Tell the relay, while there is a socket, and end what pion waits for.
	p.turn.close()
	// 3. Wake the reader.
	p.sock.close()
	// 4. Wait for it, and for those that keep permission and channel.
	p.wg.Wait()
}
