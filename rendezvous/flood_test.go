package rendezvous

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/rate"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
)

// flooders adds n operators to the team and logs them in.
func (c *crew) flooders(n int) []*person {
	c.t.Helper()
	list := make([]*person, n)
	c.publish(func(r *roster.Roster) {
		for i := range list {
			list[i] = &person{key: must(key.Generate[key.Operator]())}
			name := fmt.Sprintf("flooder%d", i)
			r.Operators = append(r.Operators, roster.Operator{Key: list[i].key.Public(), Email: name + "@acme.example", Person: name, Role: policy.Operator})
		}
	})
	for _, p := range list {
		c.mint(p, policy.Operator)
	}
	return list
}

// flood sends calls OPENs of each person, all at once, and returns how many were let
// through.
func (c *crew) flood(people []*person, h *host, calls int) (passed int64) {
	c.t.Helper()
	var n atomic.Int64
	var wg sync.WaitGroup
	for _, p := range people {
		for range 4 {
			wg.Go(func() {
				for range calls / 4 {
					switch _, err := c.api.OpenSession(c.t.Context(), p.cred, c.request(p, h, nil)); refusal.Of(err) {
					case refusal.RateLimited:
					case "":
						n.Add(1)
					default:
						c.t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	return n.Load()
}

// few is narrow enough to be met by a test that does not keep everybody else waiting,
// and does not fill up while a slow machine tries.
var few = rate.Rate{Burst: 12}

func fewSessions(s *Server) { s.leases.Sessions = rate.New[key.ID](few) }

// What honest tools do at once: a play on 200 machines, then a hundred commands one
// after the other, ten in a second.
func TestScriptsDoNotMeetTheLimitOnSessions(t *testing.T) {
	now := time.Unix(0, 0)
	b := rate.NewBucket(rateSessions, now)
	for i := range 300 {
		if i >= 200 {
			now = now.Add(100 * time.Millisecond)
		}
		if !b.Take(rateSessions, now) {
			t.Fatalf("session %d is refused", i)
		}
	}
}

// As many OPENs as a client can send, from one key and from many: each key gets its
// share and no more, and whoever does not flood is served meanwhile.
func TestB18FloodingOperatorsLeaveOthersAlone(t *testing.T) {
	t.Parallel()
	c := found(t, startNodeWith(t, nil, fewSessions))
	h := c.newHost("web-1").accepting()
	honest := c.people[policy.Approver]
	many := c.flooders(5)
	for _, tc := range []struct {
		people []*person
		calls  int
	}{{many[:1], 40}, {many[1:], 20}} {
		done := make(chan int64, 1)
		go func() { done <- c.flood(tc.people, h, tc.calls) }()
		served := 0
		var passed int64
		for flooding := true; flooding; {
			if served < int(few.Burst)/3 {
				if _, err := c.api.OpenSession(t.Context(), honest.cred, c.request(honest, h, nil)); err != nil {
					t.Fatalf("beside %d: %v", len(tc.people), err)
				}
				served++
				continue
			}
			passed, flooding = <-done, false
		}
		if want := int64(few.Burst) * int64(len(tc.people)); passed != want {
			t.Errorf("%d keys: %d of %d calls were let through, want %d", len(tc.people), passed, tc.calls*len(tc.people), want)
		}
	}
	if c.node.Snapshot()["refused_rate_limited"] == 0 {
		t.Error("not counted")
	}
}

// BenchmarkB18RefusedOpen is what one OPEN beyond the limit costs the server: a
// thousand of them per second must be nothing.
func BenchmarkB18RefusedOpen(b *testing.B) {
	c := found(b, startNodeWith(b, nil, func(s *Server) { s.gate.Operators = rate.New[key.ID](rate.Rate{PerSecond: 0, Burst: 10}) }))
	p := c.people[policy.Operator]
	for c.node.gate.Operators.Allow(p.key.ID(), time.Now()) { // use it up: nothing is filled in while it is measured
	}
	body := must(strict.Encode(c.request(p, c.newHost("web-1"), nil)))
	call := func() int {
		r := httptest.NewRequest(http.MethodPost, wire.PathSessions, http.NoBody)
		r.ContentLength = int64(len(body))
		r.Header.Set("Authorization", "Bearer "+p.cred.Token)
		w := httptest.NewRecorder()
		c.node.ServeHTTP(w, r)
		return w.Code
	}
	for b.Loop() {
		if status := call(); status != http.StatusTooManyRequests {
			b.Fatal(status)
		}
	}
}

// BenchmarkB18OpenedSession is what a session within the limit costs the server, with
// the client's and the agent's part of the calls in the same process.
func BenchmarkB18OpenedSession(b *testing.B) {
	c := found(b, startNodeWith(b, nil, func(s *Server) {
		s.leases.Sessions = rate.New[key.ID](rate.Rate{PerSecond: 1e6, Burst: 1e6})
		s.gate.Operators = rate.New[key.ID](rate.Rate{PerSecond: 1e6, Burst: 1e6})
	}))
	h, p := c.newHost("web-1").accepting(), c.people[policy.Operator]
	for b.Loop() {
		if _, err := c.api.OpenSession(b.Context(), p.cred, c.request(p, h, nil)); err != nil {
			b.Fatal(err)
		}
	}
}
