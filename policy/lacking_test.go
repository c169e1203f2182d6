package policy

import (
	"slices"
	"strings"
	"testing"
)

func TestADemandThatTheTeamIsTooSmallForIsNamed(t *testing.T) {
	one, two := `
[[allow]]
id = "careful"
who.roles = ["operator", "admin"]
actions = ["shell"]
approval = { count = 1, roles = ["admin"] }
`, `
[gate]
approval = { count = 2, roles = ["approver", "admin"] }
[[allow]]
id = "any"
who.roles = ["operator"]
actions = ["shell"]
`
	admin, approver, operator := Roles(Admin), Roles(Approver), Roles(Operator)
	for name, c := range map[string]struct {
		rules  string
		people []RoleSet
		want   string // in front of the finding, "" when all is well
	}{
		"alone":                         {one, []RoleSet{admin}, "line"},
		"nobody may":                    {one, []RoleSet{operator, operator}, "line"},
		"the only admin for others":     {one, []RoleSet{admin, operator}, ""},
		"two admins for each other":     {one, []RoleSet{admin, admin}, ""},
		"a person with keys of both":    {one, []RoleSet{admin | operator}, "line"},
		"a gate for two, who both work": {two, []RoleSet{admin, approver}, "[gate]"},
		"a gate for two and one works":  {two, []RoleSet{admin, approver, operator}, ""},
		"a gate for two of one":         {two, []RoleSet{admin, operator, operator}, "[gate]"},
		"an empty team":                 {two, nil, "[gate]"},
		"the others only read":          {one, []RoleSet{admin, Roles(Viewer)}, "line"},
		"the others are not let by it":  {strings.Replace(one, `"operator", "admin"`, `"admin"`, 1), []RoleSet{admin, operator}, "line"},
		"nobody there may ask":          {strings.Replace(one, `"operator", "admin"`, `"owner"`, 1), []RoleSet{admin, operator}, ""},
	} {
		found := load(t, c.rules).CheckTeam(c.people)
		if c.want == "" && len(found) > 0 || c.want != "" && !slices.ContainsFunc(found, func(f Finding) bool { return strings.HasPrefix(f.String(), c.want) }) {
			t.Errorf("%s: %v", name, found)
		}
	}
}
