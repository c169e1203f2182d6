package agent

import (
	"encoding/json"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/agent/pair"
	"github.com/tucdesk/tucdesk/internal/rate"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

// Whatever a policy may open, the answer that names it reaches the session process: with
// one that did not fit, every copy ended without a reason.
func TestH8TheLongestAnswerFits(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	a := pair.Answer{ID: 1<<64 - 1, Special: true, Mark: strings.Repeat("f", markLen)}
	for range policy.MaxRoots {
		a.Roots = append(a.Roots, strings.Repeat("<", policy.MaxRootBytes/policy.MaxRoots))
	}
	sent := make(chan error, 1)
	go func() { sent <- pair.Supervisor(ours).SendJSON(pair.FrameAnswer, a) }()
	_, body, err := pair.Worker(theirs).Receive()
	var got pair.Answer
	if err == nil {
		err = json.Unmarshal(body, &got)
	}
	if err != nil || <-sent != nil || !slices.Equal(got.Roots, a.Roots) {
		t.Errorf("%d bytes, %v", len(body), err)
	}
}

// A session process that asks faster than a machine judges is told so, and judged again
// when it has waited. Before keys are out it asks nothing.
func TestH8QuestionsOfASessionAreMetered(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	s := &live{child: child{pair: pair.Supervisor(ours)}}
	body, err := json.Marshal(pair.Ask{ID: 7, Action: wire.Action(policy.ForwardLocal), Target: "db.lan:1"})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if err := s.asked(body, now); refusal.Of(err) != refusal.ProtocolError {
		t.Errorf("before the keys: %v", err)
	}
	s.confirmed, s.asks.meter = true, rate.NewBucket(askRate, now)
	for n := 0; s.asks.meter.Take(askRate, now); n++ {
		if float64(n) > askRate.Burst {
			t.Fatal("the meter lets everything through")
		}
	}
	told := make(chan pair.Answer, 1)
	go func() {
		var a pair.Answer
		if _, body, err := pair.Worker(theirs).Receive(); err == nil {
			_ = json.Unmarshal(body, &a)
		}
		told <- a
	}()
	if err := s.asked(body, now); err != nil {
		t.Fatal(err)
	}
	if a := <-told; a.ID != 7 || a.Code != refusal.RateLimited {
		t.Errorf("it is told %+v", a)
	}
	if !s.asks.meter.Take(askRate, now.Add(time.Second)) {
		t.Error("a second later there is still no place")
	}
}
