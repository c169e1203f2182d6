package session

import (
	"time"

	"github.com/tucdesk/tucdesk/crypto/seal"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Times of rekeying; our choice. The limits themselves are crypto/seal's: soft
// ones at 10 minutes, 2^24 datagrams, 16 GiB, hard ones a good way behind.
const (
	rekeyCheck    = 5 * time.Second // how often a key's wear is looked at
	rekeyRepeat   = 250 * time.Millisecond
	rekeyRepeatTo = 2 * time.Second
)

// keepKeysFresh runs for the life of the session. Only the operator starts a
// rekey; the agent asks for one when the key it sends with is worn. It sends
// nothing while keys are fresh.
func (c *Conn) keepKeysFresh() {
	tick := time.NewTicker(rekeyCheck)
	defer tick.Stop()
	alarmed := false
	var asked time.Time
	for {
		worn := true
		select {
		case <-c.ctx.Done():
			return
		case <-c.wanted:
		case <-tick.C:
			worn = c.sealed.NeedsRekey(time.Now())
		}
		if now := time.Now(); worn && now.Sub(asked) >= rekeyRepeat && !c.Path().Lost {
			asked = now
			c.rekeyOrAsk()
		}
		if c.sealed.Stats().Alarm && !alarmed {
			alarmed = true
			c.log.Warn("somebody sends forged datagrams to this session", "open_failed", c.sealed.Stats().OpenFailed)
		}
	}
}

func (c *Conn) rekeyOrAsk() {
	if c.side == seal.Operator {
		c.rekey()
		return
	}
	_ = c.sendFrame(frameWanted, nil)
}

// rekey repeats the request until the answer has come or there is no path any
// more; then the path's return starts it again. Should the answer never come, the
// limits of the key end the session.
func (c *Conn) rekey() {
	select {
	case <-c.rekeyed: // of a rekey that was given up
	default:
	}
	for wait := rekeyRepeat; !c.Path().Lost; wait = min(2*wait, rekeyRepeatTo) {
		request, err := c.sealed.StartRekey()
		if err != nil || c.sendFrame(frameRekey, request) != nil {
			return // the next tick tries again
		}
		t := time.NewTimer(wait)
		select {
		case <-c.ctx.Done():
			t.Stop()
			return
		case <-c.rekeyed:
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// answerRekey runs at the agent. A copy of an old request is no fault.
func (c *Conn) answerRekey(request []byte) error {
	answer, err := c.sealed.AnswerRekey(request, time.Now())
	if refusal.Of(err) == refusal.Replay {
		return nil
	}
	if err != nil {
		return err
	}
	_ = c.sendFrame(frameRekeyed, answer) // lost answers are asked for again
	return nil
}

// finishRekey runs at the operator. The empty datagram is the first of the new
// epoch: at it the agent follows.
func (c *Conn) finishRekey(answer []byte) error {
	err := c.sealed.FinishRekey(answer, time.Now())
	if refusal.Of(err) == refusal.Replay {
		return nil
	}
	if err != nil {
		return err
	}
	poke(c.rekeyed)
	_ = c.sendFrame(framePadding, nil)
	if c.waiting.Load() {
		poke(c.paths.poke)
	}
	return nil
}
