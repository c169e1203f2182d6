package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"sync/atomic"
	"time"

	"github.com/tucdesk/tucdesk/crypto/handshake"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/replay"
	"github.com/tucdesk/tucdesk/internal/harden"
)

// Places in the traffic block (protocol 2.6); the resume block has the first two
// as well.
const (
	agentAt = 32 + 12 // key and IV agent to operator
	chainAt = handshake.TrafficSize - 32
)

// half is one direction's key and IV of one kind of datagram.
type half struct {
	aead cipher.AEAD
	iv   [12]byte
}

func newHalf(b []byte) *half {
	h := &half{aead: newGCM(b[:32])}
	copy(h.iv[:], b[32:agentAt])
	return h
}

// life is what the two halves of an epoch share: when it began, and whether it
// has aged, from when on it carries no data.
type life struct {
	began time.Time // written before the sender is published and under Session.mu
	aged  atomic.Bool

	agedAt time.Time // when aged was set; guarded by Session.mu
	idle   bool      // agreed, not in use: its age has not begun; guarded by Session.mu
}

// age is how old the epoch is by the clock that has gone further: monotonic
// clocks stand still while most machines sleep, clocks on the wall may be set
// back.
func (l *life) age(now time.Time) time.Duration {
	return max(now.Sub(l.began), now.Round(0).Sub(l.began.Round(0)))
}

// old reports whether the epoch has reached HardAge. Once said it stays, whatever
// clocks do: setting one back must not make a key young.
func (l *life) old(now time.Time) bool { return l.aged.Load() || l.age(now) >= HardAge }

// receiver is the receiving half of one epoch.
type receiver struct {
	epoch   uint32
	life    *life
	control *half
	failed  atomic.Uint64

	// Guarded by Session.mu.
	data          *half // nil once erased for its age
	window        *replay.Window
	controlWindow *replay.Window
}

// kind returns the key and the window for data or control datagrams.
func (r *receiver) kind(control bool) (*half, *replay.Window) {
	if control {
		return r.control, r.controlWindow
	}
	return r.data, r.window
}

// newEpoch makes both halves of an epoch from its traffic block, which stays the
// caller's to clear.
func newEpoch(block *[handshake.TrafficSize]byte, h4 key.Hash, side Side, epoch uint32, now time.Time) (out *sender, in *receiver) {
	l := &life{began: now}
	harden.Do(func() {
		var resume [resumeSize]byte
		defer clear(resume[:])
		resumeBlock(&resume, block[chainAt:], h4)
		send, receive := block[:agentAt], block[agentAt:]
		sendControl, receiveControl := resume[:agentAt], resume[agentAt:]
		if side == Agent {
			send, receive = receive, send
			sendControl, receiveControl = receiveControl, sendControl
		}
		out = &sender{epoch: epoch, life: l, control: newHalf(sendControl)}
		out.data.Store(newHalf(send))
		in = &receiver{epoch: epoch, life: l, data: newHalf(receive), control: newHalf(receiveControl)}
	})
	in.window, in.controlWindow = replay.NewWindow(), replay.NewWindow()
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

// expire drops keys whose time is over. A data key is also dropped some time
// after its hard age: a peer that is never let into the new epoch, because
// somebody holds its datagrams back, must not keep the old key alive. The control
// keys go with it unless the session may be resumed.
func (e *epochs) expire(now time.Time, resume time.Duration) {
	if e.old != nil && (e.graceLeft <= 0 || !now.Before(e.graceEnds)) {
		e.old = nil
	}
	for _, r := range [...]**receiver{&e.current, &e.next} {
		if *r == nil {
			continue
		}
		if (*r).life.age(now) >= max(HardAge+GraceTime, resume) {
			*r = nil
			continue
		}
		if resume > 0 {
			(*r).wear(now)
		}
	}
}

// advance makes next the current epoch. Its age begins now if it was idle.
func (e *epochs) advance(now time.Time) {
	e.old, e.current, e.next = e.current, e.next, nil
	e.graceEnds, e.graceLeft = now.Add(GraceTime), GraceDatagrams
	if l := e.current.life; l.idle {
		l.idle, l.began = false, now
	}
}
