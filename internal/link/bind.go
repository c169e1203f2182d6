package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/relay/guard"
)

// Times of the channel. Our choice, but for its life.
const (
	// channelLife is when the relay forgets a channel (RFC 8656, section 12).
	channelLife = 10 * time.Minute
	// rebindEvery leaves half of that for tries that fail.
	rebindEvery = channelLife / 2
	// bindMost is the longest pause between two tries; they begin with
	// resendFirst, and each pause is a quarter longer than the last one.
	bindMost = 15 * time.Second
)

// Send indications that one link sends before its channel is bound; our choice.
// The relay takes 100 control messages in a second from one source and drops the
// rest unread. A sender in full flow would leave next to none of these to our
// ChannelBind, so what the relay would drop is dropped here.
const (
	indicationRate  = 50 // in a second
	indicationBurst = 200
)

// keepBound binds the channel and renews it, until the allocation ends. It never gives
// up: however long the answers were lost, the session gets its speed back.
func (a *allocation) keepBound() {
	var end time.Time // before that the relay has the channel
	for wait := resendFirst; ; {
		asked, pause := time.Now(), wait
		err := a.bind(wait)
		switch {
		case err == nil:
			a.bound.Store(true)
			end, wait, pause = asked.Add(channelLife), resendFirst, rebindEvery
		case wait < bindMost:
			if wait = min(wait*5/4, bindMost); wait == bindMost {
				a.log.Warn("relay does not bind our channel", "relay", a.name, "error", err)
			}
		}
		if time.Now().After(end) {
			a.bound.Store(false)
		}
		a.hasBegun()
		if !a.awaitRebind(time.Until(asked.Add(pause))) {
			return
		}
	}
}

// awaitRebind waits until the channel is to be asked for again. It reports false when
// the allocation has ended. The relay drops what comes by a channel that it does not
// have without a word, as it must with anything that anybody can send, so a channel
// that went with an allocation of before would be missed for half its life.
func (a *allocation) awaitRebind(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-a.rebind:
	case <-a.done:
		return false
	}
	return true
}

func (a *allocation) hasBegun() {
	select {
	case <-a.began:
	default:
		close(a.began) // keepBound only
	}
}

// sleep reports false when the allocation has ended.
func (a *allocation) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-a.done:
		return false
	}
}

var errNoAnswer = errors.New("no answer")

// bind asks once for the channel, once more if the nonce was too old. Every
// request is signed by the newest credential.
func (a *allocation) bind(wait time.Duration) error {
	for range renewTries {
		answer, key, err := a.askChannel(wait)
		switch {
		case err != nil:
			return err
		case answer == nil:
			return errNoAnswer
		case guard.TypeOf(answer) == guard.ChannelBindSuccess:
			if !answers(answer, key) {
				return errors.New("the relay's answer was not made by the relay")
			}
			return nil
		case errorCode(answer) != staleNonce:
			return fmt.Errorf("the relay refused it with error %d", errorCode(answer))
		}
		// control has learnt the nonce that came with the answer.
	}
	return errors.New("the relay takes no nonce of its own")
}

func (a *allocation) askChannel(wait time.Duration) (answer, key []byte, err error) {
	request := newRequest(guard.ChannelBindRequest)
	request = guard.AppendAttribute(request, guard.AttrChannel, []byte{guard.Channel >> 8, guard.Channel & 0xff, 0, 0})
	request = guard.AppendAttribute(request, guard.AttrPeerAddress, peerAddress())
	username, password := a.turn.identity.newest()
	request, key = a.turn.identity.sign(request, username, password)
	if len(request) > guard.MaxFrame {
		return nil, nil, errors.New("the relay's challenge is too long")
	}
	id := guard.Transaction(request)
	came := a.questions.ask(id)
	defer a.questions.forget(id)
	if err := a.leg.frame(request); err != nil {
		return nil, nil, err
	}
	a.hasBegun()
	answer, err = a.await(context.Background(), came, wait)
	return answer, key, err
}

// peerAddress is guard.PeerAddr as an attribute (RFC 8489, section 14.2).
func peerAddress() []byte {
	peer := guard.PeerAddr()
	ip := peer.Addr().As4()
	v := []byte{0, 1}
	v = binary.BigEndian.AppendUint16(v, peer.Port()^magicCookie>>16)
	return binary.BigEndian.AppendUint32(v, binary.BigEndian.Uint32(ip[:])^magicCookie)
}

// indicate sends one datagram inside a Send indication, or loses it as a network
// would.
func (a *allocation) indicate(datagram []byte) error {
	if !a.slow.take(time.Now()) {
		return nil
	}
	frame := guard.AppendAttribute(newRequest(guard.SendIndication), guard.AttrPeerAddress, peerAddress())
	frame = guard.AppendAttribute(frame, guard.AttrData, datagram)
	if len(frame) > guard.MaxFrame {
		return nil
	}
	return a.leg.frame(frame)
}

// allowance is a token bucket of Send indications; its zero value is full.
type allowance struct {
	mu   sync.Mutex
	used float64   // guarded by mu
	last time.Time // guarded by mu
}

func (a *allowance) take(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.used = max(0, a.used-now.Sub(a.last).Seconds()*indicationRate)
	a.last = now
	if a.used > indicationBurst-1 {
		return false
	}
	a.used++
	return true
}
