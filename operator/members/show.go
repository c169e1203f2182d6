package members

import (
	"slices"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/verb"
)

// teamView is the answer of team show.
type teamView struct {
	Team        string       `json:"team"`
	Fingerprint key.Hash     `json:"fingerprint"`
	TeamString  string       `json:"teamString"`
	Version     uint64       `json:"rosterVersion"`
	Hash        key.Hash     `json:"rosterHash"`
	Expires     time.Time    `json:"expires"`
	Owners      int          `json:"owners"`
	Threshold   int          `json:"threshold"`
	MinVersion  string       `json:"minVersion"` // "" is any
	PolicyHash  key.Hash     `json:"policyHash"`
	Servers     []string     `json:"servers"`
	Operators   []memberView `json:"operators"`
	Revoked     []key.ID     `json:"revoked"`
}

type memberView struct {
	Email   string `json:"email"`
	Person  string `json:"person"`
	Role    string `json:"role"`
	Key     key.ID `json:"key"`
	Code    string `json:"shortCode"`
	Revoked bool   `json:"revoked"`
}

func view(a *account.Account) (teamView, error) {
	r := a.State.Roster()
	text, err := a.Member.TeamString()
	v := teamView{
		Team: a.Member.Team.String(), Fingerprint: a.Member.Fingerprint, TeamString: text,
		Version: r.Version, Hash: a.State.Hash(), Expires: r.ExpiresAt.Time(),
		Owners: len(r.Owners), Threshold: r.Threshold, MinVersion: r.MinVersion, PolicyHash: r.PolicyHash,
		Servers: []string{}, Operators: []memberView{}, Revoked: verb.List(r.Revoked),
	}
	for _, s := range r.Servers {
		v.Servers = append(v.Servers, s.URL)
	}
	for _, o := range r.Operators {
		id := o.Key.ID()
		v.Operators = append(v.Operators, memberView{o.Email, o.Person, o.Role.String(), id, id.ShortCode(), slices.Contains(r.Revoked, id)})
	}
	return v, err
}

// ShowTeam prints the team by the roster that was verified last.
func ShowTeam(a *account.Account, io *cli.IO, asJSON bool) error {
	v, err := view(a)
	if err != nil {
		return err
	}
	if asJSON {
		return io.PrintJSON(v)
	}
	io.Print("fingerprint  %s\nroster       version %d, expires %s\nowners       %d, of which %d must sign\nprograms     %s\nservers      %s\nteam string  %s\n",
		v.Fingerprint, v.Version, cli.When(v.Expires), v.Owners, v.Threshold, atLeast(v.MinVersion), strings.Join(v.Servers, ", "), v.TeamString)
	return verb.Table(io, []any{"EMAIL", "ROLE", "KEY"}, func(row func(...any)) {
		for _, m := range v.Operators {
			role := m.Role
			if m.Revoked {
				role = "revoked"
			}
			row(m.Email, role, m.Code)
		}
	})
}

func atLeast(version string) string {
	if version == "" {
		return "any version"
	}
	return "version " + version + " or newer"
}
