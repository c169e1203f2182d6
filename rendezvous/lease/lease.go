// Package lease gives the two ends of a session what they show to relays: a
// credential of their pair, which lives for an hour at most, and a ticket with which
// they ask for the next one (protocol 6.2).
//
// A ticket is this server's own statement about the session, so nothing has to be
// remembered, and a restart ends none. It proves what the session was; whether it may
// go on is judged anew each time, by the roster and the registry of then.
package lease

import (
	"context"
	"log/slog"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/rate"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/relay/credential"
	"github.com/tucdesk/tucdesk/rendezvous/chain"
	"github.com/tucdesk/tucdesk/rendezvous/identity"
	"github.com/tucdesk/tucdesk/rendezvous/live"
	"github.com/tucdesk/tucdesk/rendezvous/metrics"
	"github.com/tucdesk/tucdesk/rendezvous/problem"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

// CheckLifetime of a credential for checking relays; our choice: a check takes
// seconds, and a stolen one is worth nothing soon.
const CheckLifetime = 2 * time.Minute

// Desk gives and renews credentials. Its fields are set before the first call and not
// changed; all are required. All methods are safe for concurrent use.
type Desk struct {
	Store   *store.Store
	Teams   *team.Teams
	Keys    *identity.Keys
	Metrics *metrics.Counters
	Log     *slog.Logger

	Secret    credential.Secret     // shared with the relays
	Endpoints []wire.RelayEndpoint  // of the relays, in order of preference
	Lifetime  time.Duration         // of a credential
	Sessions  *rate.Limiter[key.ID] // a check costs the relays what a session does, and counts as one
}

// SignTicket makes what both ends of a new session show when they ask for their
// next credential (protocol 6.2).
func (d *Desk) SignTicket(t wire.RelayTicket) (statement.Signed, error) {
	return statement.Sign(d.Keys.Grant, t)
}

// OpenTicket reads a ticket of ours. One that is not does not exist: whoever
// guesses at sessions learns nothing about them (attack K10).
func (d *Desk) OpenTicket(signed statement.Signed) (wire.RelayTicket, error) {
	t, _, err := statement.Open[wire.RelayTicket](signed, func(kid key.ID) (statement.Verifier, error) {
		if kid != d.Keys.Grant.ID() {
			return nil, team.NotFound()
		}
		return d.Keys.Grant.Public(), nil
	})
	if err != nil {
		return wire.RelayTicket{}, team.NotFound()
	}
	return t, nil
}

// Credential mints one side's credential of a ticket's pair. It never lives
// beyond the session; the one that lives as long comes without the ticket.
func (d *Desk) Credential(t wire.RelayTicket, signed statement.Signed, role credential.Role, now time.Time) (wire.Relay, wire.Lease) {
	lifetime := d.Lifetime
	if t.EndsAt != 0 {
		if left := t.EndsAt.Time().Sub(now); left <= lifetime {
			lifetime, signed = left, nil
		}
	}
	c := credential.Mint(d.Secret, credential.Pair(t.Pair), role, now, lifetime)
	return d.relayOf(c), wire.Lease{Lifetime: wire.Millis(c.ExpiresAt.Sub(now).Milliseconds()), Ticket: signed}
}

// Renewal judges a ticket again by the roster and the registry of now, both its
// ends, and mints. The caller has made sure that the ticket is the asker's.
func (d *Desk) Renewal(ctx context.Context, t wire.RelayTicket, signed statement.Signed, role credential.Role, state chain.State, now time.Time) (wire.RelayRenewed, error) {
	if err := state.MayOpen(now); err != nil {
		return wire.RelayRenewed{}, err
	}
	of, err := d.Teams.Find(ctx, t.Team)
	if err != nil {
		return wire.RelayRenewed{}, err
	}
	session := live.Session{ID: t.Session, Operator: t.Operator, Agent: t.Agent}
	if err := state.MaySession(t.Operator, now); err != nil {
		of.Live.Put(session, now.Add(d.Lifetime), now) // also one from before a restart
		d.Teams.Cut(of, now, team.One(t.Session, problem.Code(err)))
		return wire.RelayRenewed{}, err
	}
	if err := d.agentGood(ctx, of, t.Agent, state, now); err != nil {
		return wire.RelayRenewed{}, err
	}
	if code := of.Live.Ended(t.Session); code != "" {
		return wire.RelayRenewed{}, refusal.New(code, "this session was ended")
	}
	if t.EndsAt != 0 && !now.Before(t.EndsAt.Time()) {
		return wire.RelayRenewed{}, refusal.New(refusal.Expired, "the session reached the longest duration that the policy allows")
	}
	r, lease := d.Credential(t, signed, role, now)
	of.Live.Put(session, r.ExpiresAt.Time(), now)
	d.Metrics.Count("renewed")
	return wire.RelayRenewed{Relay: r, Lease: lease}, nil
}

// agentGood reports why an agent has no more sessions: it was deleted, or its
// certificate does not hold by this roster. Whoever asks is an end of the session,
// so there is nothing to hide.
func (d *Desk) agentGood(ctx context.Context, t *team.Team, agent key.ID, state chain.State, now time.Time) error {
	var a store.Agent
	err := d.Store.View(ctx, t.ID, func(tx *store.Tx) (err error) {
		a, err = tx.Agent(agent)
		return err
	})
	if err != nil {
		return err
	}
	if a.DeletedAt != 0 {
		return refusal.New(refusal.KeyRevoked, "this agent was deleted")
	}
	_, err = state.Roster.VerifyAgent(a.Token, a.Certificate, now)
	return err
}

func (d *Desk) relayOf(c credential.Credential) wire.Relay {
	return wire.Relay{Endpoints: d.Endpoints, Username: c.Username, Password: c.Password, ExpiresAt: wire.At(c.ExpiresAt)}
}
