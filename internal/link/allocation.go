package link

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/tucdesk/tucdesk/internal/path"
	"github.com/tucdesk/tucdesk/internal/udp"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// leg is one way of carrying frames to a relay.
type leg interface {
	// segments sends ChannelData frames of size bytes that lie in b.
	segments(b []byte, size int) error
	// frame sends one control message.
	frame(b []byte) error
	close()
}

// allocation is our place on one relay, over one leg.
type allocation struct {
	via   path.Via
	leg   leg
	kind  Kind
	name  string // "host:port"
	log   *slog.Logger
	stats *guard.Stats
	turn  *turnClient

	questions questions
	slow      allowance // of Send indications

	spoke     chan struct{} // closed by the first frame from the relay
	spokeOnce sync.Once
	reflexive atomic.Pointer[netip.AddrPort] // where the relay sees us

	ready atomic.Bool   // established
	bound atomic.Bool   // the channel is bound, keepBound says: data goes out as ChannelData
	done  chan struct{} // closed when the allocation ends
	err   error         // why; written before done is closed
	once  sync.Once     // fail
	wg    sync.WaitGroup
}

func newAllocation(via path.Via, kind Kind, name string, log *slog.Logger, stats *guard.Stats) *allocation {
	return &allocation{
		via: via, kind: kind, name: name, log: log, stats: stats, turn: newTurnClient(),
		spoke: make(chan struct{}), done: make(chan struct{}),
	}
}

// sort returns the payload of a frame, or shows the frame to pion and returns nil.
func (a *allocation) sort(frame []byte) []byte {
	if err := guard.Client.Check(frame); err != nil {
		var r guard.Reason
		if errors.As(err, &r) {
			a.stats.Count(r)
		}
		return nil
	}
	a.spokeOnce.Do(func() { close(a.spoke) })
	if guard.IsChannelData(frame) {
		n, payload, err := guard.ParseChannelData(frame)
		if err != nil || n != guard.Channel {
			a.stats.Count(guard.NotPaired)
			return nil
		}
		return payload
	}
	if guard.TypeOf(frame) == guard.DataIndication {
		payload, _ := guard.Find(frame, guard.AttrData)
		return payload
	}
	a.control(frame)
	return nil
}

// minLifetime is the shortest allocation, in seconds, that we take. pion renews
// after half of it: with zero it would spin.
const minLifetime = 60

// control shows pion an answer of the relay, unless the question was ours.
func (a *allocation) control(frame []byte) {
	t := guard.TypeOf(frame)
	if t == guard.AllocateSuccess {
		v, ok := guard.Find(frame, guard.AttrLifetime)
		if !ok || binary.BigEndian.Uint32(v) < minLifetime {
			a.stats.Count(guard.BadAttribute)
			return
		}
		if at, ok := mappedAddress(frame); ok {
			a.reflexive.Store(&at)
		}
	}
	a.turn.identity.learn(frame)
	if a.questions.answer(frame) {
		return
	}
	a.turn.handle(frame)
}

// write sends datagrams, by channel as soon as there is one.
func (a *allocation) write(b []byte, size int) error {
	select {
	case <-a.done:
		return nil
	default:
	}
	if a.bound.Load() {
		for frame := range udp.Segments(b, size) {
			guard.PutChannelHeader(frame, guard.Channel, len(frame)-Headroom)
		}
		return a.leg.segments(b, size)
	}
	for frame := range udp.Segments(b, size) {
		if err := a.indicate(frame[Headroom:]); err != nil {
			return err
		}
	}
	return nil
}

// fail ends the allocation without waiting for its goroutines.
func (a *allocation) fail(err error) {
	a.once.Do(func() {
		a.err = err
		close(a.done)
	})
}

// close frees the allocation and waits for its goroutines.
func (a *allocation) close() {
	// 1. No more data.
	a.fail(errDone)
	// 2. Tell the relay, while there is a leg, and end what pion waits for.
	a.turn.close()
	// 3. Wake the leg's reader.
	a.leg.close()
	// 4. Wait for it, and for those that keep permission and channel.
	a.wg.Wait()
}
