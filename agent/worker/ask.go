package worker

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/tucdesk/tucdesk/agent/pair"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// asks are the questions that the supervisor has not answered yet.
type asks struct {
	mu      sync.Mutex
	last    uint64                      // guarded by mu
	waiting map[uint64]chan pair.Answer // guarded by mu; each has one place
}

func (a *asks) begin() (uint64, chan pair.Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting == nil {
		a.waiting = make(map[uint64]chan pair.Answer)
	}
	a.last++
	ch := make(chan pair.Answer, 1)
	a.waiting[a.last] = ch
	return a.last, ch
}

func (a *asks) forget(id uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.waiting, id)
}

// answered passes an answer on; one to nothing is dropped.
func (a *asks) answered(body []byte) {
	var answer pair.Answer
	if json.Unmarshal(body, &answer) != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if ch := a.waiting[answer.ID]; ch != nil {
		delete(a.waiting, answer.ID)
		ch <- answer
	}
}

// may asks the supervisor, who knows the policy and whom this session is for.
// The answer is a yes, with what the rules say about it.
func (w *worker) may(ctx context.Context, action wire.Action, target string) (pair.Answer, error) {
	id, ch := w.asks.begin()
	defer w.asks.forget(id)
	if err := w.pair.SendJSON(pair.FrameAsk, pair.Ask{ID: id, Action: action, Target: target}); err != nil {
		return pair.Answer{}, err
	}
	select {
	case answer := <-ch:
		if answer.Code != "" {
			return pair.Answer{}, &refusal.Error{Code: refusal.Plain(answer.Code), Detail: answer.Detail}
		}
		return answer, nil
	case <-ctx.Done():
		return pair.Answer{}, context.Cause(ctx)
	}
}
