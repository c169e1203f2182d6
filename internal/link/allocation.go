package link

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tucdesk/tucdesk/internal/path"
	"github.com/tucdesk/tucdesk/internal/udp"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/guard"
)

// leg carries frames to one relay; reading is its owner's.
type leg interface {
	// segments sends ChannelData frames of size bytes that lie in b.
	segments(b []byte, size int) error
	// whole sends one of them that may not be sent on in parts, or nothing.
	whole(b []byte)
	// frame sends one control message. An error of either is final.
	frame(b []byte) error
	close()
}

// allocation is our place on one relay, and the way there.
type allocation struct {
	link *Link
	via  path.Via
	kind Kind
	name string // "host:port"
	at   wire.RelayEndpoint
	leg  leg
	log  *slog.Logger
	turn *turnClient

	questions questions
	slow      allowance // of Send indications

	// gate holds the first signed request back until it may go and returns what to
	// sign it with, asked is called when it has gone: see race.
	gate  func() (wire.Relay, error)
	asked func()

	bound    atomic.Bool    // the channel is bound, keepBound says: data goes out as ChannelData
	passed   atomic.Bool    // the gate is open
	granted  atomic.Bool    // the relay has said yes
	mismatch atomic.Bool    // the relay has an allocation of this five-tuple
	mapped   netip.AddrPort // where the relay sees us; set before granted
	trip     time.Duration  // a round trip to the relay; set before granted
	local    netip.Addr     // our address on the way there when it was made
	remote   netip.AddrPort // the relay, or the proxy before it
	heard    atomic.Int64   // Unix nanoseconds; anything from the relay
	arrived  atomic.Int64   // Unix nanoseconds; data from the other end
	waiting  atomic.Int64   // Unix nanoseconds of the first data since anything was heard; 0 none
	unmet    atomic.Int64   // the same since data arrived
	doubt    chan struct{}  // cap 1: data goes out and nothing comes; ask the relay whether it is there
	urgent   chan struct{}  // cap 1: the same at once, whatever was asked before
	began    chan struct{}  // closed when the channel has been asked for
	rebind   chan struct{}  // cap 1: the relay may have forgotten the channel

	dialled time.Time // when the challenge was asked for; written before that
	sent    time.Time // when the request went out; written before keepBound begins

	done chan struct{} // closed when the allocation ends
	err  error         // why; written before done is closed
	once sync.Once     // fail
	wg   sync.WaitGroup
}

func newAllocation(l *Link, v path.Via, k Kind, name string) *allocation {
	return &allocation{
		link: l, via: v, kind: k, name: name, log: l.cfg.Logger, turn: newTurnClient(), asked: func() {},
		doubt: make(chan struct{}, 1), urgent: make(chan struct{}, 1), began: make(chan struct{}), rebind: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// sort puts the payload of a frame into b, or shows the frame to pion.
func (a *allocation) sort(b *batch, frame []byte, now time.Time) {
	err := guard.Client.Check(frame)
	if err != nil {
		var r guard.Reason
		if errors.As(err, &r) {
			a.link.stats.Count(r)
		}
		return
	}
	a.heard.Store(now.UnixNano())
	if a.waiting.Load() != 0 {
		a.waiting.Store(0)
	}
	if guard.IsChannelData(frame) {
		n, payload, err := guard.ParseChannelData(frame)
		if err != nil || n != guard.Channel {
			a.link.stats.Count(guard.NotPaired)
			return
		}
		a.took(b, payload, now)
		return
	}
	if guard.TypeOf(frame) == guard.DataIndication {
		payload, _ := guard.Find(frame, guard.AttrData)
		a.took(b, payload, now)
		return
	}
	a.control(frame)
}

func (a *allocation) took(b *batch, payload []byte, now time.Time) {
	a.arrived.Store(now.UnixNano())
	if a.unmet.Load() != 0 {
		a.unmet.Store(0)
	}
	b.add(a.via, payload)
}

// minLifetime is the shortest allocation, in seconds, that we take. pion renews
// after half of it: with zero it would spin.
const minLifetime = 60

// control shows pion an answer of the relay, unless the question was ours.
func (a *allocation) control(frame []byte) {
	switch guard.TypeOf(frame) {
	case guard.AllocateSuccess:
		if !a.isGrant(frame) {
			a.link.stats.Count(guard.BadAttribute)
			return
		}
	case guard.AllocateError:
		if errorCode(frame) == allocationMismatch {
			a.mismatch.Store(true)
		}
	}
	a.turn.identity.learn(frame)
	if a.questions.answer(frame) {
		return
	}
	a.turn.handle(frame)
}

// isGrant reports whether an answer to Allocate was made by who knows our
// credential, for a sensible time, and learns from it where the relay sees us:
// whoever could forge that would have both ends probe an address of his choice.
func (a *allocation) isGrant(frame []byte) bool {
	v, ok := guard.Find(frame, guard.AttrLifetime)
	if !ok || binary.BigEndian.Uint32(v) < minLifetime || !answers(frame, a.turn.identity.key()) {
		return false
	}
	if v, ok := guard.Find(frame, guard.AttrMappedAddress); ok {
		a.turn.see(readAddress(v, guard.Transaction(frame)))
	}
	return true
}

// suspectAfter is how long data goes out and nothing comes from the relay before
// it is asked whether it is there; our choice: more than a long round trip, and
// the other paths have taken over long before.
const suspectAfter = 600 * time.Millisecond

// write sends datagrams, by channel as soon as there is one. An error of the leg
// ends the allocation.
func (a *allocation) write(b []byte, size int) {
	select {
	case <-a.done:
		return
	default:
	}
	a.note(time.Now().UnixNano())
	if err := a.send(b, size); err != nil {
		a.fail(err)
	}
}

// note remembers since when data goes out that nothing answers.
func (a *allocation) note(now int64) {
	if a.unmet.Load() == 0 {
		a.unmet.CompareAndSwap(0, now)
	}
	since := a.waiting.Load()
	if since == 0 {
		a.waiting.CompareAndSwap(0, now)
	} else if now-since > int64(suspectAfter) {
		poke(a.doubt)
	}
}

func (a *allocation) send(b []byte, size int) error {
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

// whole sends one datagram that may not be sent on in parts, once there is a channel: an
// indication is longer.
func (a *allocation) whole(b []byte) {
	if a.bound.Load() {
		guard.PutChannelHeader(b, guard.Channel, len(b)-Headroom)
		a.leg.whole(b)
	}
}

// silent is how long data has gone out and none has come back, from the other end
// or from nobody at all.
func (a *allocation) silent(now time.Time) time.Duration {
	since := a.unmet.Load()
	if since == 0 {
		return 0
	}
	return time.Duration(now.UnixNano() - since)
}

var errDone = net.ErrClosed

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
	// 2. A connection says all by ending, and must not hold up a farewell.
	if _, own := a.leg.(*connLeg); own {
		a.leg.close()
	}
	// 3. Tell the relay, while there is a way, and end what pion waits for.
	a.turn.close()
	// 4. Give the place on the socket back.
	a.leg.close()
	// 5. Wait for the reader, and for those that keep permission and channel.
	a.wg.Wait()
}

// establish allocates, and returns when the relay has granted it. Permission and
// channel are asked for right behind the request, and data goes behind these: in
// one order, and one round trip earlier than if the grant were waited for.
func (a *allocation) establish(ctx context.Context) error {
	if err := a.turn.start(pionConn{a}); err != nil {
		return err
	}
	// pion knows no contexts; what it waits for ends with its client.
	stop := context.AfterFunc(ctx, a.turn.abort)
	defer stop()
	a.dialled = time.Now()
	err := a.turn.allocate()
	if err != nil && a.mismatch.Load() {
		// The relay still has what this socket had there before.
		if err = a.forget(ctx); err == nil {
			err = a.turn.allocate()
		}
		a.bound.Store(false)
		poke(a.rebind) // the channel went with it
	}
	if err != nil {
		return firstError(ctx, err)
	}
	if !stop() {
		return ctx.Err()
	}
	a.mapped, a.trip = a.turn.seen(), min(a.trip, time.Since(a.sent)) // one of them may have met a busy machine
	a.heard.Store(time.Now().UnixNano())
	a.granted.Store(true)
	a.wg.Go(a.renew)
	a.wg.Go(a.answerDoubts)
	return nil
}

// follow sends what follows the request for the allocation, once.
func (a *allocation) follow() {
	if a.sent.IsZero() { // pion sends it again from a timer, but not before this has returned
		a.sent = time.Now()
		a.wg.Go(a.keepBound)
		select { // data goes behind the request for the channel, which permits it
		case <-a.began:
			a.asked()
		case <-a.done:
		}
	}
}

// pass lets the first signed request through the gate, and from then on there is
// a credential to sign with; the others follow.
func (a *allocation) pass() error {
	if a.passed.Load() {
		return nil
	}
	a.trip = time.Since(a.dialled) // what is asked first needs no gate
	cred, err := a.gate()
	if err != nil {
		return err
	}
	a.turn.identity.take(cred)
	a.passed.Store(true)
	return nil
}

func firstError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
