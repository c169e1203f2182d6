package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"sync/atomic"
	"time"

	"github.com/tucdesk/tucdesk/crypto/handshake"
	"github.com/tucdesk/tucdesk/crypto/replay"
	"github.com/tucdesk/tucdesk/internal/harden"
)

// Places in the traffic block (protocol 2.6).
const (
	agentAt = 32 + 12 // key and IV agent to operator
	chainAt = handshake.TrafficSize - 32
)

// receiver is the receiving half of one epoch.
type receiver struct {
	aead   cipher.AEAD
	iv     [12]byte
	epoch  uint32
	began  time.Time
	window *replay.Window // guarded by Session.mu
	failed atomic.Uint64
}

// newEpoch makes both halves of an epoch from its traffic block, which stays the
// caller's to clear.
func newEpoch(block *[handshake.TrafficSize]byte, side Side, epoch uint32, now time.Time) (out *sender, in *receiver) {
	send, receive := block[:agentAt], block[agentAt:]
	if side == Agent {
		send, receive = receive, send
	}
	harden.Do(func() {
		out = &sender{epoch: epoch, began: now, aead: newGCM(send[:32])}
		copy(out.iv[:], send[32:])
		in = &receiver{epoch: epoch, began: now, aead: newGCM(receive[:32])}
		copy(in.iv[:], receive[32:])
	})
	in.window = replay.NewWindow()
	return out, in
}

func newGCM(k []byte) cipher.AEAD {
	block, err := aes.NewCipher(k)
	if err != nil {
		panic("seal: internal error: " + err.Error())
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("seal: internal error: " + err.Error())
	}
	return aead
}

// epochs are the receive keys in force, each nil when there is none; guarded by
// Session.mu.
type epochs struct {
	current *receiver
	next    *receiver // agreed, but the peer was not seen in it yet
	old     *receiver // in grace

	graceEnds time.Time // of old
	graceLeft int       // datagrams old may still open
}

// find returns the receiver by the low 8 bits of its epoch. At most three follow
// each other, so they never share those bits.
func (e *epochs) find(low byte) *receiver {
	for _, r := range [...]*receiver{e.current, e.next, e.old} {
		if r != nil && byte(r.epoch) == low {
			return r
		}
	}
	return nil
}

func (e *epochs) has(r *receiver) bool { return r == e.current || r == e.next || r == e.old }

// expire drops keys whose time is over. A key is also dropped some time after
// its hard age: a peer that is never let into the new epoch, because somebody
// holds its datagrams back, must not keep the old key alive.
func (e *epochs) expire(now time.Time) {
	if e.old != nil && (e.graceLeft <= 0 || !now.Before(e.graceEnds)) {
		e.old = nil
	}
	for _, r := range [...]**receiver{&e.current, &e.next} {
		if *r != nil && now.Sub((*r).began) >= HardAge+GraceTime {
			*r = nil
		}
	}
}

// advance makes next the current epoch.
func (e *epochs) advance(now time.Time) {
	e.old, e.current, e.next = e.current, e.next, nil
	e.graceEnds, e.graceLeft = now.Add(GraceTime), GraceDatagrams
}
