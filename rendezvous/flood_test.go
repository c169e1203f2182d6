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

// flood sends calls OPENs of each person, as fast as connections that are kept take
// them, and more for as long as more, which is told how many there were, says so. It
// returns how many were let through.
func (c *crew) flood(people []*person, h *host, calls int, more func(sent int64) bool) (passed int64) {
	c.t.Helper()
	const connections = 4 // of each
	var n, sent atomic.Int64
	var wg sync.WaitGroup
	for _, p := range people {
		for range connections {
			wg.Go(func() {
				for i := 0; more(sent.Add(1)) || i < calls/connections; i++ {
					switch _, err := c.api.OpenSession(c.t.Context(), p.cred, c.request(p, h, nil)); refusal.Of(err) {
					case refusal.RateLimited:
					case "":
						n.Add(1)
					default:
						c.t.Error(err)
						return
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
		go func() { done <- c.flood(tc.people, h, tc.calls, func(int64) bool { return false }) }()
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

// TestB18FloodAtTheProductsLimits sends a thousand OPENs and more, as fast as this machine
// takes them, to a server whose limits are those of the product. It is scaled down from
// the attack's 10,000 in a second: a machine with two processors does not sign, send and
// answer so many beside other tests. What one of them costs the server beyond the
// limit, which is what would let it stand more, is BenchmarkB18RefusedOpen.
func TestB18FloodAtTheProductsLimits(t *testing.T) {
	t.Parallel()
	const calls, beside = 1000, 10 // of the flood, and sessions that somebody else opens all along
	c := found(t, startNode(t))
	h, honest := c.newHost("web-1").accepting(), c.people[policy.Approver]
	beat := make(chan struct{}, beside)
	var served atomic.Int64
	more := func(sent int64) bool {
		if sent%(calls/beside) == 0 {
			select {
			case beat <- struct{}{}:
			default:
			}
		}
		return served.Load() < beside && !t.Failed()
	}
	flooder := c.flooders(1)
	done := make(chan int64, 1)
	began := time.Now()
	go func() { done <- c.flood(flooder, h, calls, more); close(beat) }()
	for range beside {
		<-beat
		if _, err := c.api.OpenSession(t.Context(), honest.cred, c.request(honest, h, nil)); err != nil {
			t.Errorf("beside the flood: %v", err)
		}
		served.Add(1)
	}
	passed, took := <-done, time.Since(began)
	least := int64(rateSessions.Burst)
	if most := least + int64(rateSessions.PerSecond*took.Seconds()+1); passed < least || passed > most {
		t.Errorf("%d sessions in %v, want %d to %d", passed, took, least, most)
	}
	t.Logf("%d OPENs and more in %v, %d of them sessions", calls, took, passed)
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
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set(wire.ProofHeader, "x") // it is not looked at any more
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
