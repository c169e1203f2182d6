package worker

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"sync"
	"testing"

	"github.com/tucdesk/tucdesk/agent/pair"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

// supervised is a worker whose questions are answered by answer, each after an answer
// to a question that nobody asked.
func supervised(t *testing.T, answer func(pair.Ask) pair.Answer) *worker {
	ours, theirs := net.Pipe()
	w, supervisor := &worker{pair: pair.Worker(theirs)}, pair.Supervisor(ours)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			typ, body, err := supervisor.Receive()
			if err != nil {
				return
			}
			var ask pair.Ask
			if typ != pair.FrameAsk || json.Unmarshal(body, &ask) != nil {
				t.Errorf("frame %d: %q", typ, body)
			}
			w.asks.answered(marshal(t, pair.Answer{ID: ask.ID + 100}))
			w.asks.answered([]byte("{"))
			a := answer(ask)
			a.ID = ask.ID
			w.asks.answered(marshal(t, a))
		}
	})
	t.Cleanup(func() {
		_ = ours.Close()
		wg.Wait()
	})
	return w
}

func TestEachQuestionGetsItsAnswer(t *testing.T) {
	w := supervised(t, func(a pair.Ask) pair.Answer {
		if a.Target == "no" {
			return pair.Answer{Code: refusal.PolicyDenied, Detail: "blocked"}
		}
		return pair.Answer{Named: a.Target == "named"}
	})
	var wg sync.WaitGroup
	for _, target := range []string{"no", "named", "yes"} {
		for range 20 {
			wg.Go(func() {
				yes, err := w.may(t.Context(), wire.Action(policy.ForwardLocal), target)
				if (err != nil) != (target == "no") || yes.Named != (target == "named") || err != nil && refusal.Of(err) != refusal.PolicyDenied {
					t.Errorf("%q: %+v, %v", target, yes, err)
				}
			})
		}
	}
	wg.Wait()
	if len(w.asks.waiting) != 0 {
		t.Errorf("%d questions are remembered", len(w.asks.waiting))
	}
}

func TestNobodyWaitsForAnAnswerAfterTheSession(t *testing.T) {
	asked := make(chan struct{})
	w := supervised(t, func(pair.Ask) pair.Answer { close(asked); return pair.Answer{Code: "x"} })
	ctx, cancel := context.WithCancelCause(t.Context())
	over := errors.New("over")
	cancel(over)
	if _, err := w.may(ctx, wire.Action(policy.ForwardLocal), "a:1"); err == nil {
		t.Error("it is allowed")
	}
	<-asked
}

// A worker opens for SFTP what the supervisor names, and nothing where it says no: an
// answer without folders is everything, one with an empty list nothing.
func TestTreesAreThoseOfTheAnswer(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		read, write   pair.Answer
		reads, writes bool
		code          refusal.Code
	}{
		"both":            {pair.Answer{}, pair.Answer{Roots: []string{dir}}, true, true, ""},
		"read":            {pair.Answer{Roots: []string{dir}}, pair.Answer{Code: refusal.PolicyDenied}, true, false, ""},
		"write":           {pair.Answer{Code: refusal.PolicyDenied}, pair.Answer{Roots: []string{dir}}, false, true, ""},
		"none":            {pair.Answer{Code: refusal.PolicyDenied}, pair.Answer{Code: refusal.PolicyDenied}, false, false, refusal.PolicyDenied},
		"an empty list":   {pair.Answer{Roots: []string{}}, pair.Answer{Code: refusal.PolicyDenied}, false, false, refusal.BadPath},
		"no such folders": {pair.Answer{Roots: []string{dir + "/none"}}, pair.Answer{Code: refusal.PolicyDenied}, false, false, refusal.BadPath},
	} {
		w := supervised(t, func(a pair.Ask) pair.Answer {
			if a.Action == wire.Action(policy.CopyRead) {
				return c.read
			}
			return c.write
		})
		cfg, err := w.trees(t.Context())
		if (cfg.Read != nil) != c.reads || (cfg.Write != nil) != c.writes || refusal.Of(err) != c.code {
			t.Errorf("%s: %+v, %v", name, cfg, err)
		}
		cfg.Read.Close()
		cfg.Write.Close()
	}
}

// What the policy is asked about is written as policies write it, whatever the
// operator's program made of it.
func TestTargetsAreWrittenAsPoliciesWriteThem(t *testing.T) {
	for _, c := range []struct {
		o    session.Opening
		want string // "" is refused
	}{
		{session.Opening{Kind: session.DirectTCP, Host: "DB.lan.", Port: 5432}, "db.lan:5432"},
		{session.Opening{Kind: session.DirectTCP, Host: "fd00::1", Port: 80}, "[fd00::1]:80"},
		{session.Opening{Kind: session.DirectTCP, Host: "db.lan"}, ""},
		{session.Opening{Kind: session.DirectTCP, Host: "a b", Port: 1}, ""},
		{session.Opening{Kind: session.DirectTCP, Host: "-x", Port: 1}, ""},
		{session.Opening{Kind: session.DirectSocket, Host: "/run/a.sock"}, "/run/a.sock"},
		{session.Opening{Kind: session.DirectSocket, Host: "/run/../etc"}, ""},
		{session.Opening{Kind: session.DirectSocket, Host: "run/a"}, ""},
		{session.Opening{Kind: session.ListenTCP, Host: "127.0.0.1", Port: 8080}, "localhost:8080"},
		{session.Opening{Kind: session.ListenTCP, Host: "localhost"}, "localhost:0"},
		{session.Opening{Kind: session.ListenTCP, Host: "0.0.0.0", Port: 8080}, "0.0.0.0:8080"},
		{session.Opening{Kind: session.ListenSocket, Host: "/tmp/s"}, "/tmp/s"},
	} {
		got, err := target(c.o)
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%+v: %q, %v", c.o, got, err)
		}
	}
}
