package store

import (
	"errors"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
)

func request(t testing.TB, team principal.TeamID, rule string) Request {
	t.Helper()
	id := wire.NewSessionID()
	s := signed(t, "request %s", id)
	return Request{
		Hash: s.Hash(), Session: id, Operator: hashOf("operator"), Agent: hashOf("agent"), Statement: s, Open: wire.Bytes{1, 2},
		State: wire.RequestPending, Rule: rule, Need: 2, Roles: []string{rule, "admin"},
		CreatedAt: wire.At(now), ExpiresAt: wire.At(now.Add(10 * time.Minute)),
	}
}

func put(t testing.TB, s *Store, team principal.TeamID) Request {
	t.Helper()
	r := request(t, team, "rule")
	in(t, s, team, "", func(tx *Tx) error { return tx.PutRequest(r) })
	return r
}

func decision(t testing.TB, r Request, approver, what string) Approval {
	id := wire.NewNonce()
	return Approval{Request: r.Hash, ID: id, Approver: hashOf("%s", approver), Decision: what, Statement: signed(t, "%s %s", what, id)}
}

func TestRequestComesBackAsItWasPut(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team, other := found(t, s), found(t, s)
		r := put(t, s, team)
		in(t, s, team, refusal.Replay, func(tx *Tx) error { return tx.PutRequest(r) })
		same := request(t, team, "rule")
		same.Session = r.Session
		in(t, s, team, refusal.Replay, func(tx *Tx) error { return tx.PutRequest(same) })
		look(t, s, team, func(tx *Tx) error {
			got := must[Request](t)(tx.Request(r.Hash))
			if got.Session != r.Session || got.Need != 2 || string(got.Open) != "\x01\x02" || got.ExpiresAt != r.ExpiresAt ||
				got.Statement.Hash() != r.Hash || got.Operator != r.Operator || got.Agent != r.Agent {
				t.Errorf("request %+v", got)
			}
			if info := got.Info(); info.State != wire.RequestPending || info.Hash != r.Hash || len(info.Roles) != 2 {
				t.Errorf("info %+v", info)
			}
			if list := must[[]Request](t)(tx.Requests(5)); len(list) != 1 {
				t.Errorf("list %v", list)
			}
			return nil
		})
		in(t, s, other, refusal.NotFound, func(tx *Tx) error { _, err := tx.Request(r.Hash); return err })
	})
}

func TestOpenRequestsComeFirst(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team := found(t, s)
		r := put(t, s, team)
		for i := range 3 {
			later := request(t, team, "rule")
			later.State, later.CreatedAt = wire.RequestDenied, r.CreatedAt+wire.Millis(i+1)
			in(t, s, team, "", func(tx *Tx) error { return tx.PutRequest(later) })
		}
		look(t, s, team, func(tx *Tx) error {
			if list := must[[]Request](t)(tx.Requests(2)); len(list) != 2 || list[0].Hash != r.Hash || list[1].CreatedAt != r.CreatedAt+3 {
				t.Errorf("list %+v", list)
			}
			if n := must[int](t)(tx.OpenRequests(r.Operator)); n != 1 {
				t.Errorf("%d open", n)
			}
			return nil
		})
	})
}

// Whoever completes the number must see that it is complete, however the two
// approvals fall together; otherwise the request would wait for ever.
func TestK8ConcurrentApprovalsAreNotLost(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		nodes := []*Store{open(t, dsn), open(t, dsn)}
		team := found(t, nodes[0])
		for range 10 {
			r := put(t, nodes[0], team)
			decisions := []Approval{decision(t, r, "ann", "approve"), decision(t, r, "bob", "approve")}
			count(t, race(2, func(i int) error {
				return nodes[i].InTx(t.Context(), team, func(tx *Tx) error {
					got, err := tx.AddApproval(decisions[i], now)
					if err != nil || len(got.Approvals) < r.Need {
						return err
					}
					return tx.SetRequestState(r.Hash, wire.RequestPending, wire.RequestApproved, now)
				})
			}), "")
			look(t, nodes[0], team, func(tx *Tx) error {
				if got := must[Request](t)(tx.Request(r.Hash)); got.State != wire.RequestApproved || len(got.Approvals) != 2 {
					t.Errorf("request is %s with %d approvals", got.State, len(got.Approvals))
				}
				return nil
			})
		}
	})
}

// Approve, deny, cancel and expire at once: one wins, and what the losers are
// told is the winner's state.
func TestE12OneStateWins(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		nodes := []*Store{open(t, dsn), open(t, dsn)}
		team := found(t, nodes[0])
		targets := []wire.RequestState{wire.RequestApproved, wire.RequestDenied, wire.RequestCancelled, wire.RequestUsed}
		for range 10 {
			r := put(t, nodes[0], team)
			errs := race(len(targets), func(i int) error {
				return nodes[i%2].InTx(t.Context(), team, func(tx *Tx) error {
					return tx.SetRequestState(r.Hash, wire.RequestPending, targets[i], now)
				})
			})
			winners := 0
			for i, err := range errs {
				if err != nil {
					continue
				}
				winners++
				look(t, nodes[0], team, func(tx *Tx) error {
					if got := must[Request](t)(tx.Request(r.Hash)); got.State != targets[i] {
						t.Errorf("winner set %s, request is %s", targets[i], got.State)
					}
					return nil
				})
			}
			if winners != 1 {
				t.Errorf("%d winners: %v", winners, errs)
			}
		}
	})
}

func TestClosedRequestsTakeNoDecision(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team := found(t, s)
		for state, code := range map[wire.RequestState]refusal.Code{
			wire.RequestDenied: refusal.ApprovalDenied, wire.RequestCancelled: refusal.ApprovalCancelled,
			wire.RequestUsed: refusal.ApprovalUsed, wire.RequestExpired: refusal.ApprovalExpired,
		} {
			r := put(t, s, team)
			in(t, s, team, "", func(tx *Tx) error { return tx.SetRequestState(r.Hash, wire.RequestPending, state, now) })
			in(t, s, team, code, func(tx *Tx) error { _, err := tx.AddApproval(decision(t, r, "ann", "approve"), now); return err })
			in(t, s, team, code, func(tx *Tx) error {
				return tx.SetRequestState(r.Hash, wire.RequestPending, wire.RequestApproved, now)
			})
		}
		r := put(t, s, team)
		in(t, s, team, refusal.ApprovalExpired, func(tx *Tx) error {
			_, err := tx.AddApproval(decision(t, r, "ann", "approve"), r.ExpiresAt.Time())
			return err
		})
		in(t, s, team, refusal.ApprovalPending, func(tx *Tx) error {
			return tx.SetRequestState(r.Hash, wire.RequestApproved, wire.RequestUsed, now)
		})
		in(t, s, team, refusal.NotFound, func(tx *Tx) error {
			return tx.SetRequestState(hashOf("none"), wire.RequestPending, wire.RequestUsed, now)
		})
		in(t, s, team, refusal.NotFound, func(tx *Tx) error {
			_, err := tx.AddApproval(decision(t, Request{Hash: hashOf("none")}, "ann", "deny"), now)
			return err
		})
	})
}

func TestDecisionsCountOncePerPerson(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team := found(t, s)
		r := put(t, s, team)
		add := func(a Approval, code refusal.Code) {
			t.Helper()
			in(t, s, team, code, func(tx *Tx) error { _, err := tx.AddApproval(a, now); return err })
		}
		first := decision(t, r, "ann", "approve")
		add(first, "")
		add(decision(t, r, "ann", "approve"), refusal.Replay)
		reused := decision(t, r, "bob", "approve")
		reused.ID = first.ID
		add(reused, refusal.Replay)
		add(decision(t, r, "ann", "deny"), "") // a withdrawal counts beside the approval
		look(t, s, team, func(tx *Tx) error {
			if got := must[Request](t)(tx.Request(r.Hash)); len(got.Approvals) != 2 {
				t.Errorf("%d decisions", len(got.Approvals))
			}
			return nil
		})
	})
}

func TestExpiredRequestsAreFoundOnce(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team, other := found(t, s), found(t, s)
		r := put(t, s, team)
		put(t, s, other)
		expire := func(at time.Time) (list []key.Hash) {
			in(t, s, team, "", func(tx *Tx) (err error) { list, err = tx.ExpireRequests(at); return err })
			return list
		}
		if list := expire(now.Add(time.Minute)); len(list) != 0 {
			t.Errorf("expired early: %v", list)
		}
		if list := expire(now.Add(time.Hour)); len(list) != 1 || list[0] != r.Hash {
			t.Errorf("expired: %v", list)
		}
		if list := expire(now.Add(time.Hour)); len(list) != 0 {
			t.Errorf("expired twice: %v", list)
		}
	})
}

func TestK16DeleteAndUseAreOneOrder(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		nodes := []*Store{open(t, dsn), open(t, dsn)}
		team := found(t, nodes[0])
		k := token(t, 99)
		publish(t, nodes[0], team, k)
		gone := errors.New("agent is gone")
		for i := range 10 {
			a := agent(t, k, string(rune('a'+i)))
			join(t, nodes[0], team, a, "")
			r := request(t, team, "rule")
			errs := race(2, func(i int) error {
				if i == 0 {
					return nodes[0].InTx(t.Context(), team, func(tx *Tx) error { return tx.DeleteAgent(a.Kid, now) })
				}
				return nodes[1].InTx(t.Context(), team, func(tx *Tx) error {
					ok, err := tx.LockAgent(a.Kid)
					if err == nil && !ok {
						err = gone
					}
					if err != nil {
						return err
					}
					return tx.PutRequest(r)
				})
			})
			if errs[0] != nil || errs[1] != nil && !errors.Is(errs[1], gone) {
				t.Fatal(errs)
			}
		}
	})
}

func TestNextDueIsTheFirstOpenOne(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team, other := found(t, s), found(t, s)
		want := func(due wire.Millis) {
			t.Helper()
			look(t, s, team, func(tx *Tx) error {
				if got := must[wire.Millis](t)(tx.NextDue()); got != due {
					t.Errorf("due at %d, want %d", got, due)
				}
				return nil
			})
		}
		want(0)
		put(t, s, other)
		want(0)
		later, first := request(t, team, "rule"), request(t, team, "rule")
		first.ExpiresAt -= 60_000
		in(t, s, team, "", func(tx *Tx) error { return errors.Join(tx.PutRequest(later), tx.PutRequest(first)) })
		want(first.ExpiresAt)
		in(t, s, team, "", func(tx *Tx) error {
			return tx.SetRequestState(first.Hash, wire.RequestPending, wire.RequestCancelled, now)
		})
		want(later.ExpiresAt)
	})
}

func TestUsedRequestWaitsAgainUntilItExpires(t *testing.T) {
	both(t, func(t *testing.T, dsn string) {
		s := open(t, dsn)
		team := found(t, s)
		r := put(t, s, team)
		r.Need, r.Roles, r.Rule = 3, []string{"admin"}, "stricter"
		in(t, s, team, refusal.ApprovalPending, func(tx *Tx) error { return tx.ReopenRequest(r, now) })
		move := func(from, to wire.RequestState) {
			in(t, s, team, "", func(tx *Tx) error { return tx.SetRequestState(r.Hash, from, to, now) })
		}
		move(wire.RequestPending, wire.RequestApproved)
		move(wire.RequestApproved, wire.RequestUsed)
		in(t, s, team, refusal.ApprovalUsed, func(tx *Tx) error { return tx.ReopenRequest(r, r.ExpiresAt.Time()) })
		in(t, s, team, "", func(tx *Tx) error { return tx.ReopenRequest(r, now) })
		look(t, s, team, func(tx *Tx) error {
			got := must[Request](t)(tx.Request(r.Hash))
			if got.State != wire.RequestPending || got.Need != 3 || got.Rule != "stricter" || len(got.Roles) != 1 {
				t.Errorf("%+v", got)
			}
			return nil
		})
		move(wire.RequestPending, wire.RequestDenied)
		in(t, s, team, refusal.ApprovalDenied, func(tx *Tx) error { return tx.ReopenRequest(r, now) })
	})
}
