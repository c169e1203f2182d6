package replay

import (
	"math"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Sizes of a Window, from protocol 2.8.
const (
	blockBits = 64               // counters in a block
	blocks    = 32               // blocks kept
	WindowTTL = 60 * time.Second // age at which a block is forgotten
	// WindowSize is how far, in counters, a datagram may be behind the highest.
	// Because blocks begin at multiples of 64, the reach in practice is between
	// 1,985 and 2,048.
	WindowSize = blockBits * blocks
)

// The receive path returns these for every dropped datagram, so they are made
// once: a flood of copies must not make work for the collector.
var (
	errReplay = refusal.New(refusal.Replay, "this counter was used before")
	errTooOld = refusal.New(refusal.TooOld, "this counter is behind the window")
)

// Window remembers which counters of one receive key were used. Steps of the
// receiver: Check, open the datagram, Set; nothing is remembered for a datagram
// that did not open, or forgeries would shut out the real ones.
//
// A steady stream costs one small allocation in 64 counters, a refusal none. A
// Window is not safe for concurrent use. Receivers that open in parallel hold their
// lock for Check and again for Check and Set together.
type Window struct {
	blocks  *simplelru.LRU[uint64, *block]
	last    *block // the block used last: most datagrams arrive in order
	low     uint64 // the floor plus one: anything below is refused
	highest uint64 // the highest counter accepted; means nothing before any is set
	any     bool
}

type block struct {
	index uint64 // counter / 64
	bits  uint64
	added time.Time
}

// NewWindow returns a window that has seen nothing.
func NewWindow() *Window {
	lru, err := simplelru.NewLRU[uint64, *block](blocks, nil)
	if err != nil {
		panic("replay: internal error: " + err.Error())
	}
	return &Window{blocks: lru}
}

// Check reports whether counter may still be accepted at now: refusal.Replay
// when it was used, refusal.TooOld when it is at or below the floor or 2,048 and
// more behind the highest. The counter 2^64-1 is never accepted, so that the
// floor cannot wrap.
func (w *Window) Check(counter uint64, now time.Time) error {
	w.expire(now)
	if counter < w.low || counter == math.MaxUint64 {
		return errTooOld
	}
	if w.any && counter < w.highest && w.highest-counter >= WindowSize {
		return errTooOld
	}
	if b := w.find(counter / blockBits); b != nil && b.bits>>(counter%blockBits)&1 == 1 {
		return errReplay
	}
	return nil
}

// Set marks counter as used. Call it only after Check allowed the counter and
// its datagram opened.
func (w *Window) Set(counter uint64, now time.Time) {
	w.expire(now)
	if !w.any || counter > w.highest {
		w.any, w.highest = true, counter
	}
	b := w.find(counter / blockBits)
	if b == nil {
		b = w.add(counter/blockBits, now)
	}
	b.bits |= 1 << (counter % blockBits)
	w.last = b
}

// Highest returns the highest counter accepted, and false when there is none.
func (w *Window) Highest() (uint64, bool) { return w.highest, w.any }

// find peeks: a look-up must not make a block younger, because LRU order has to
// stay age order.
func (w *Window) find(index uint64) *block {
	if w.last != nil && w.last.index == index {
		return w.last
	}
	b, _ := w.blocks.Peek(index)
	return b
}

func (w *Window) add(index uint64, now time.Time) *block {
	if w.blocks.Len() < blocks {
		b := &block{index: index, added: now}
		w.blocks.Add(index, b)
		return b
	}
	b := w.evict()
	*b = block{index: index, added: now}
	w.blocks.Add(index, b)
	return b
}

func (w *Window) expire(now time.Time) {
	for {
		_, b, ok := w.blocks.GetOldest()
		if !ok || now.Sub(b.added) < WindowTTL {
			return
		}
		w.evict()
	}
}

// evict forgets the oldest block and raises the floor over all it knew, so that
// what was forgotten is refused instead of taken again (attack A6). Not over the
// highest counter accepted: an idle stream would refuse its own next datagram.
func (w *Window) evict() *block {
	_, b, ok := w.blocks.RemoveOldest()
	if !ok {
		panic("replay: internal error: evicting from an empty window")
	}
	w.low = max(w.low, min(b.index*blockBits+blockBits-1, w.highest)+1)
	if w.last == b {
		w.last = nil
	}
	return b
}
