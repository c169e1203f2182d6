package policy

import (
	"fmt"
	"strings"
)

// Role is what a roster entry lets a person do (protocol 3.4). Roles are
// ordered, least first, for display and for AtLeast; rules never use the order:
// they list the roles they mean, so that a new role cannot slip into an old rule.
type Role uint8

// The roles, least first. The zero Role is none of them and matches no rule.
const (
	Viewer   Role = 1 + iota // reads what the team may read
	Operator                 // opens sessions, and approves where a rule names the role
	Approver                 // as an operator; the role that rules are meant to name for approvals
	Admin                    // deletes agents and exports the log as well
	Owner                    // as an admin; rosters are signed with an owner key, which is another and needs no role
)

var roleNames = [...]string{Viewer: "viewer", Operator: "operator", Approver: "approver", Admin: "admin", Owner: "owner"}

// Valid reports whether r is one of the five roles.
func (r Role) Valid() bool { return r >= Viewer && r <= Owner }

// AtLeast reports whether r is least or stands above it in the order.
func (r Role) AtLeast(least Role) bool { return r.Valid() && r >= least }

// String returns the role's name, or "no role" for a value that is none.
func (r Role) String() string {
	if !r.Valid() {
		return "no role"
	}
	return roleNames[r]
}

// MarshalText returns the role's name; a value that is no role is an error.
func (r Role) MarshalText() ([]byte, error) {
	if !r.Valid() {
		return nil, fmt.Errorf("writing a role: %d is none", uint8(r))
	}
	return []byte(roleNames[r]), nil
}

// UnmarshalText reads a role's name, in lower case as String writes it.
func (r *Role) UnmarshalText(text []byte) error {
	for i, name := range roleNames {
		if name != "" && name == string(text) {
			*r = Role(i)
			return nil
		}
	}
	return fmt.Errorf("%q is not a role: write viewer, operator, approver, admin or owner", text)
}

// ParseRole reads a role's name.
func ParseRole(s string) (r Role, err error) {
	err = r.UnmarshalText([]byte(s))
	return r, err
}

// RoleSet is a set of roles, one bit each.
type RoleSet uint8

// Roles makes a set; values that are no role are left out.
func Roles(list ...Role) (s RoleSet) {
	for _, r := range list {
		if r.Valid() {
			s |= 1 << r
		}
	}
	return s
}

const allRoles RoleSet = 1<<Viewer | 1<<Operator | 1<<Approver | 1<<Admin | 1<<Owner

// Has reports whether r is in the set.
func (s RoleSet) Has(r Role) bool { return r.Valid() && s&(1<<r) != 0 }

// String lists the names, least first, separated by ", ".
func (s RoleSet) String() string {
	var names []string
	for r := Viewer; r <= Owner; r++ {
		if s.Has(r) {
			names = append(names, r.String())
		}
	}
	return strings.Join(names, ", ")
}
