package rendezvous

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/rate"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/rosters"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
)

// next is the next version with an edit, signed by the owner.
func (c *crew) next(edit func(*roster.Roster)) wire.RosterPublish {
	return wire.RosterPublish{Update: must(roster.Sign(c.owner, roster.Next(c.state, func(r *roster.Roster) {
		edit(r)
		r.Renew(time.Now(), roster.DefaultLifetime)
	})))}
}

// Every operator key is revoked, the owners' own among them: nobody can log in, and
// the owners still can mend it.
func TestOwnersAreNeverLockedOut(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	c.publish(func(r *roster.Roster) {
		for _, p := range c.people {
			r.Revoke(p.key.ID())
		}
	})
	_, _, err := c.api.Login(t.Context(), c.people[policy.Admin].key, c.state.Team())
	wantCode(t, err, refusal.NotLoggedIn)
	saved := &person{key: must(key.Generate[key.Operator]())}
	mend := c.next(func(r *roster.Roster) {
		r.Operators = append(r.Operators, roster.Operator{Key: saved.key.Public(), Email: "saved@acme.example", Person: "saved", Role: policy.Admin})
	})
	for range 2 { // also the same once more
		if err := c.api.OfferRoster(t.Context(), mend); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := c.api.Login(t.Context(), saved.key, c.state.Team()); err != nil {
		t.Fatal(err)
	}
	all := c.entries()
	last := all[len(all)-2] // before the login
	if last.Type != entry.RosterPublish || last.Actor.Kid != c.owner.ID() || last.RosterVersion != 3 {
		t.Errorf("entry %+v", last)
	}
}

// Whoever is no owner gets one answer, whatever the team and the version.
func TestC15OfferedRostersTellStrangersNothing(t *testing.T) {
	t.Parallel()
	c := found(t, startNodeWith(t, nil, func(s *Server) {
		s.rosters.Offers, s.gate.Sources = rate.New[rosters.Visit](rate.Rate{PerSecond: 1000, Burst: 1000}), rate.New[netip.Prefix](rate.Rate{PerSecond: 1000, Burst: 1000})
	}))
	stranger := must(key.Generate[key.Owner]())
	a := attack(t, c.node)
	offer := func(p wire.RosterPublish) answer {
		return a.send(forged{method: "POST", target: wire.PathOffer, body: must(strict.Encode(p))})
	}
	forge := func(edit func(*roster.Roster)) wire.RosterPublish {
		r := roster.Next(c.state, func(r *roster.Roster) { r.Renew(time.Now(), time.Hour); edit(r) })
		return wire.RosterPublish{Update: wire.RosterUpdate{Statement: sign(t, stranger, r)}}
	}
	unknown := offer(forge(func(r *roster.Roster) { r.Team = wire.NewTeamID() }))
	a.want("unknown team", unknown, 404, refusal.NotFound)
	for name, edit := range map[string]func(*roster.Roster){
		"next":     func(*roster.Roster) {},
		"rollback": func(r *roster.Roster) { r.Version = 1 },
		"gap":      func(r *roster.Roster) { r.Version = 9 },
		"own keys": func(r *roster.Roster) { r.Owners = []key.Public[key.Owner]{stranger.Public()} },
	} {
		got := offer(forge(edit))
		a.want(name, got, 404, refusal.NotFound)
		if got.problem.Detail != unknown.problem.Detail {
			t.Errorf("%s: %q", name, got.problem.Detail)
		}
	}
	good := c.next(func(*roster.Roster) {})
	raw := must(strict.Encode(good))
	for i := 0; i < len(raw); i += 1 + len(raw)/150 {
		bad := bytes.Clone(raw)
		bad[i] ^= 1
		if got := a.send(forged{method: "POST", target: wire.PathOffer, body: bad}); got.status/100 != 4 {
			t.Fatalf("byte %d flipped: %d", i, got.status)
		}
	}
	for _, e := range c.entries() {
		if e.Refusal != "" {
			t.Errorf("a stranger wrote %s/%s into the log", e.Type, e.Refusal)
		}
	}
	if err := c.api.OfferRoster(t.Context(), good); err != nil {
		t.Fatalf("the honest one: %v; the rest proves nothing", err)
	}
}

// An owner is told what is wrong.
func TestOfferedRostersAreChecked(t *testing.T) {
	t.Parallel()
	c := found(t, startNode(t))
	put := func(p wire.RosterPublish) error { return c.api.OfferRoster(t.Context(), p) }
	first, second := c.next(func(*roster.Roster) {}), c.next(func(r *roster.Roster) { r.MinVersion = "9.9.9" })
	renamed := c.next(func(r *roster.Roster) { r.Servers[0].Name = "renamed" })
	wantCode(t, put(renamed), refusal.BadName)
	rule := c.next(func(r *roster.Roster) { r.PolicyHash[0] ^= 1 })
	rule.Policy = wire.Bytes(testPolicy)
	wantCode(t, put(rule), refusal.PolicyMismatch)
	must(0, put(first))
	wantCode(t, put(second), refusal.Fork)
	c.state = must(c.state.Apply(first.Update, time.Now()))
	wantCode(t, put(wire.RosterPublish{Update: c.state.Chain()[0]}), refusal.Rollback)
	later := roster.Next(c.state, func(r *roster.Roster) { r.Renew(time.Now(), time.Hour) })
	later.Version += 3
	wantCode(t, put(wire.RosterPublish{Update: wire.RosterUpdate{Statement: sign(t, c.owner, later)}}), refusal.Gap)

	// From now on two of two owners must sign.
	partner := must(key.Generate[key.Owner]())
	both := func(u wire.RosterUpdate) wire.RosterUpdate {
		u.Cosignatures = append(u.Cosignatures, must(statement.Cosign(partner, u.Statement)))
		return u
	}
	two := c.next(func(r *roster.Roster) {
		r.Owners = append(r.Owners, partner.Public())
		r.Threshold = 2
	}).Update
	wantCode(t, put(wire.RosterPublish{Update: two}), refusal.NotEnoughSignatures)
	two = both(two)
	must(0, put(wire.RosterPublish{Update: two}))
	c.state = must(c.state.Apply(two, time.Now()))
	alone := c.next(func(*roster.Roster) {}).Update
	wantCode(t, put(wire.RosterPublish{Update: alone}), refusal.NotEnoughSignatures)
	must(0, put(wire.RosterPublish{Update: both(alone)}))
}

func TestOfferedRostersAreCounted(t *testing.T) {
	t.Parallel()
	c := found(t, startNodeWith(t, nil, func(s *Server) {
		s.rosters.Offers = rate.New[rosters.Visit](rate.Rate{Burst: rateOffers.Burst}) // it must not fill up while a slow machine tries
	}))
	junk := c.next(func(*roster.Roster) {})
	junk.Update.Statement = sign(t, must(key.Generate[key.Owner]()), roster.Next(c.state, func(r *roster.Roster) { r.Renew(time.Now(), time.Hour) }))
	for range int(rateOffers.Burst) {
		wantCode(t, c.api.OfferRoster(t.Context(), junk), refusal.NotFound)
	}
	wantCode(t, c.api.OfferRoster(t.Context(), junk), refusal.RateLimited)
	if !c.node.rosters.Offers.Allow(rosters.Visit{Source: rate.Source("192.0.2.1:1"), Team: c.state.Team()}, time.Now()) {
		t.Error("a stranger used up the owners' share from elsewhere")
	}
}
