package rosters

import (
	"net/netip"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/rate"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/gate"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
	"github.com/tucdesk/tucdesk/rendezvous/strict"
	"github.com/tucdesk/tucdesk/rendezvous/team"
)

// Visit is what offers are counted by: a count for the team alone would let a
// stranger use up the owners' share.
type Visit struct {
	Source netip.Prefix
	Team   wire.TeamID
}

// Offer takes the next version of a roster from whoever brings it, without a
// login. The owners' signatures are all that counts, and a login takes an operator
// key: owners whose operator keys are revoked, lost or expired would be locked out
// of the one act that mends it. The checks are those of Publish. Whoever
// brings something that no owner of the team has signed learns nothing, not even
// that there is such a team (attack C15).
func (d *Desk) Offer(c *gate.Call) (any, error) {
	var req wire.RosterPublish
	if err := strict.Decode(c.Body, &req); err != nil {
		return nil, err
	}
	owner, err := d.openOffer(c, req.Update.Statement)
	if err != nil {
		return nil, err
	}
	next, err := c.State.Roster.Apply(req.Update, c.Now)
	switch {
	case err == nil:
		c.Who = principal.Principal{Team: c.Team.ID, Operator: owner}
		return nil, d.publish(c, req, next)
	case d.ownedBy(c.State.Roster, req.Update.Statement):
		c.Who = principal.Principal{Team: c.Team.ID, Operator: owner}
		return nil, err
	case refusal.Of(err) == "":
		return nil, err
	}
	return nil, team.NotFound()
}

// openOffer finds the team that a roster claims to be of, and its first signer. The
// statement is not verified here.
func (d *Desk) openOffer(c *gate.Call, signed statement.Signed) (owner key.ID, err error) {
	var found error
	_, _, err = statement.OpenSelfSigned(signed, func(r roster.Roster, kid key.ID) (statement.Verifier, error) {
		owner = kid
		if !d.Offers.Allow(Visit{rate.Source(c.HTTP.RemoteAddr), r.Team}, c.Now) {
			found = refusal.New(refusal.RateLimited, "too many rosters from this network; wait a moment")
			return nil, found
		}
		if c.Team, found = d.Teams.Find(c.HTTP.Context(), r.Team); found == nil {
			c.State, found = d.Teams.Refresh(c.HTTP.Context(), c.Team)
		}
		return nil, team.NotFound() // who must have signed is Apply's to find out
	})
	if found == nil && c.Team == nil {
		found = err // not a roster at all
	}
	return owner, found
}

// ownedBy reports whether one of the team's present owners made the statement.
func (d *Desk) ownedBy(state *roster.State, signed statement.Signed) bool {
	_, _, err := statement.Open[roster.Roster](signed, func(kid key.ID) (statement.Verifier, error) {
		for _, o := range state.Roster().Owners {
			if o.ID() == kid {
				return o, nil
			}
		}
		return nil, team.NotFound()
	})
	return err == nil
}
