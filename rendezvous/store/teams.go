package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/rendezvous/principal"
)

// Team is one team that was founded on this server.
type Team struct {
	ID            principal.TeamID
	Fingerprint   key.Hash         // hash of Root
	Root          statement.Signed // roster.Root
	RosterVersion uint64           // the newest
	FoundedAt     wire.Millis
}

// Teams lists all teams, for the server's start. It is the only look across teams.
func (s *Store) Teams(ctx context.Context) ([]Team, error) {
	var teams []Team
	err := s.once(ctx, s.read, principal.TeamID{}, func(t *Tx) error {
		if s.dialect.teams {
			if _, err := t.exec("listing teams", setTeam, "*"); err != nil {
				return err
			}
		}
		return t.rows("listing teams", selectTeams, nil, func(scan func(...any) error) error {
			team, err := scanTeam(scan)
			teams = append(teams, team)
			return err
		})
	})
	return teams, hide(err)
}

// FindTeam looks for a team that a caller has named, before anything of the caller
// is verified: it tells whether a team was founded here, and nothing of what it has.
// A team that was not is not_found.
func (s *Store) FindTeam(ctx context.Context, id wire.TeamID) (team Team, err error) {
	err = s.View(ctx, principal.Trusted(id), func(t *Tx) error {
		team, err = t.Record()
		return err
	})
	return team, err
}

// scanTeam reads teamColumns and, into more, what else the query selects.
func scanTeam(scan func(...any) error, more ...any) (Team, error) {
	var team Team
	var id wire.TeamID
	err := scan(append([]any{fixed(id[:]), fixed(team.Fingerprint[:]), (*[]byte)(&team.Root), &team.RosterVersion, &team.FoundedAt}, more...)...)
	team.ID = principal.Trusted(id)
	return team, err
}

// Record returns the transaction's team as it is stored.
func (t *Tx) Record() (Team, error) { return t.record(selectTeam, []any{t.id}) }

func (t *Tx) record(query string, args []any, more ...any) (Team, error) {
	var team Team
	err := t.rows("reading the team", query, args, func(scan func(...any) error) (err error) {
		team, err = scanTeam(scan, more...)
		return err
	})
	if err == nil && team.ID.IsZero() {
		err = refusal.New(refusal.NotFound, "no such team")
	}
	return team, err
}

// Founding is everything a team starts with. The caller has verified all of it.
type Founding struct {
	Code       key.Hash // SHA-256 of the one-time setup code
	Team       wire.TeamID
	Root       statement.Signed
	Setup      statement.Signed
	Updates    []wire.RosterUpdate // from version 1 on, at least one
	PolicyHash key.Hash
	Policy     []byte
}

// FoundTeam spends the setup code and stores the team, in one transaction with
// what also does (its first audit entry). A code that is unknown, used or
// expired, and a team that exists, give not_found: to a stranger the setup page
// is gone once it was used (attack G12).
func (s *Store) FoundTeam(ctx context.Context, f Founding, now time.Time, also func(*Tx) error) (principal.TeamID, error) {
	team := principal.Trusted(f.Team)
	err := s.InTx(ctx, team, func(t *Tx) error {
		if err := t.found(f, now); err != nil {
			return err
		}
		return also(t)
	})
	if err != nil {
		return principal.TeamID{}, err
	}
	return team, nil
}

func (t *Tx) found(f Founding, now time.Time) error {
	gone := refusal.New(refusal.NotFound, "no setup is open with this code")
	n, err := t.exec("using a setup code", useSetupCode, f.Code[:], millis(now))
	if err != nil || n != 1 {
		return either(err, gone)
	}
	if len(f.Updates) == 0 || f.Team == (wire.TeamID{}) {
		return fmt.Errorf("founding a team: id or roster is missing")
	}
	fingerprint := f.Root.Hash()
	n, err = t.exec("founding a team", insertTeam, t.id, fingerprint[:], bytesOf(f.Root), bytesOf(f.Setup), len(f.Updates), millis(now))
	if err != nil || n != 1 {
		return either(err, gone)
	}
	for i, u := range f.Updates {
		if err := t.insertRoster(uint64(i)+1, u, now); err != nil {
			return err
		}
	}
	return t.insertPolicy(f.PolicyHash, f.Policy)
}

// either returns the fault if there is one, else the refusal.
func either(fault error, refused *refusal.Error) error {
	if fault != nil {
		return fault
	}
	return refused
}

func (t *Tx) insertRoster(version uint64, u wire.RosterUpdate, now time.Time) error {
	body, err := json.Marshal(u)
	if err != nil {
		return fmt.Errorf("storing a roster: %v", err)
	}
	hash := u.Statement.Hash()
	_, err = t.exec("storing a roster", insertRoster, t.id, version, hash[:], body, millis(now))
	return err
}

func (t *Tx) insertPolicy(hash key.Hash, text []byte) error {
	_, err := t.exec("storing a policy", insertPolicy, t.id, hash[:], bytesOf(text))
	return err
}

// RosterUpdates returns every version after from, oldest first.
func (t *Tx) RosterUpdates(from uint64) ([]wire.RosterUpdate, error) {
	var updates []wire.RosterUpdate
	err := t.rows("reading rosters", selectRosters, []any{t.id, from}, func(scan func(...any) error) error {
		var body []byte
		if err := scan(&body); err != nil {
			return err
		}
		var u wire.RosterUpdate
		err := json.Unmarshal(body, &u)
		updates = append(updates, u)
		return err
	})
	return updates, err
}

// AppendRoster stores version expected+1, which the caller verified against the
// stored chain, with the policy that it binds (policy may be nil when the hash
// is stored already). If another version got in between, the same update again
// is no error and a different one is fork.
func (t *Tx) AppendRoster(expected uint64, u wire.RosterUpdate, policyHash key.Hash, policy []byte, now time.Time) error {
	n, err := t.exec("raising the roster's version", raiseRoster, t.id, expected+1, expected)
	if err != nil {
		return err
	}
	if n != 1 {
		return t.sameRoster(expected+1, u)
	}
	if err := t.insertRoster(expected+1, u, now); err != nil {
		return err
	}
	if policy != nil {
		return t.insertPolicy(policyHash, policy)
	}
	_, err = t.Policy(policyHash)
	return err
}

func (t *Tx) sameRoster(version uint64, u wire.RosterUpdate) error {
	var have key.Hash
	ok, err := t.row("reading a roster's hash", selectRosterHash, []any{t.id, version}, fixed(have[:]))
	switch {
	case err != nil:
		return err
	case !ok:
		return refusal.New(refusal.Gap, "roster %d does not follow the stored one", version)
	case have != u.Statement.Hash():
		return refusal.New(refusal.Fork, "another roster %d is stored", version)
	}
	return nil
}

// Policy returns the policy text with that hash.
func (t *Tx) Policy(hash key.Hash) ([]byte, error) {
	var text []byte
	ok, err := t.row("reading a policy", selectPolicy, []any{t.id, hash[:]}, &text)
	if err == nil && !ok {
		err = refusal.New(refusal.NotFound, "no such policy")
	}
	return text, err
}
