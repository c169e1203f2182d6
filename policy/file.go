package policy

import (
	"encoding"
	"fmt"

	"github.com/tucdesk/tucdesk/crypto/key"
)

// The types of this file are the policy file as TOML sees it. What a value may
// be is said beside its type in names.go and window.go; what may stand together
// is checked in parse.go.

// leaf is a value that is written as a string and checks itself. The TOML
// library asks UnmarshalText only of types that are not strings or numbers
// underneath, and would store the others unchecked; hence the struct around it.
// set tells a value from the empty table that the library takes for it.
type leaf[T any] struct {
	v   T
	set bool
}

// UnmarshalText has T read the text.
func (l *leaf[T]) UnmarshalText(text []byte) error {
	l.set = true
	return any(&l.v).(encoding.TextUnmarshaler).UnmarshalText(text)
}

// collect returns the values of a list. It refuses an empty one, because a reader
// cannot tell whether [] was meant as nobody or as everybody. After a first error
// it does nothing, so that a caller can look at err once.
func collect[T any](err *error, name string, list []leaf[T]) []T {
	if *err != nil || list == nil {
		return nil
	}
	if *err = checkLength(name, len(list)); *err != nil {
		return nil
	}
	out := make([]T, len(list))
	for i, l := range list {
		if !l.set {
			*err = fmt.Errorf("%s: no. %d is not a string", name, i+1)
		}
		out[i] = l.v
	}
	return out
}

// optional returns the value of a key that may be left out; nil is left out. What
// the library takes for an empty table is a mistake, not a key left out.
func optional[T any](err *error, name string, l *leaf[T]) (v T) {
	if l == nil || *err != nil {
		return v
	}
	if !l.set {
		*err = fmt.Errorf("%s: want a string", name)
	}
	return l.v
}

func checkLength(name string, n int) error {
	if n == 0 {
		return fmt.Errorf("%s: the list is empty; name at least one, or remove the key", name)
	}
	if n > MaxList {
		return fmt.Errorf("%s: %d elements, the limit is %d", name, n, MaxList)
	}
	return nil
}

type file struct {
	Version     int             `toml:"version"`
	Mode        leaf[mode]      `toml:"mode"`
	RosterGrace *leaf[duration] `toml:"roster_grace"`
	Environment environmentFile `toml:"environment"`
	Limits      limitsFile      `toml:"limits"`
	Gate        *gateFile       `toml:"gate"`
	Allow       []ruleFile      `toml:"allow"`
	Block       []ruleFile      `toml:"block"`
	Expect      []expectFile    `toml:"expect"`
}

type environmentFile struct {
	Allow []leaf[envName] `toml:"allow"`
}

type ruleFile struct {
	ID          leaf[ruleID]      `toml:"id"`
	Description string            `toml:"description"`
	Who         whoFile           `toml:"who"`
	Where       whereFile         `toml:"where"`
	Actions     []leaf[Action]    `toml:"actions"`
	Users       []leaf[userName]  `toml:"users"`
	Commands    [][]string        `toml:"commands"`
	Cwd         []leaf[directory] `toml:"cwd"`
	Targets     []leaf[target]    `toml:"targets"`
	Roots       []leaf[directory] `toml:"roots"`
	When        *whenFile         `toml:"when"`
	Approval    *approvalFile     `toml:"approval"`
	Limits      *limitsFile       `toml:"limits"`
}

type whoFile struct {
	Roles  []leaf[Role]     `toml:"roles"`
	Emails []leaf[email]    `toml:"emails"`
	People []leaf[personID] `toml:"people"`
	Keys   []leaf[key.ID]   `toml:"keys"`
}

type whereFile struct {
	TagsAny []leaf[tagName]   `toml:"tags_any"`
	TagsAll []leaf[tagName]   `toml:"tags_all"`
	Agents  []leaf[agentName] `toml:"agents"`
}

type whenFile struct {
	Days []leaf[weekday]  `toml:"days"`
	From *leaf[clockTime] `toml:"from"`
	To   *leaf[clockTime] `toml:"to"`
	Zone leaf[zone]       `toml:"zone"`
}

type approvalFile struct {
	Count int          `toml:"count"`
	Roles []leaf[Role] `toml:"roles"`
}

type limitsFile struct {
	Session *leaf[duration] `toml:"session"`
	Idle    *leaf[duration] `toml:"idle"`
	Resume  *leaf[duration] `toml:"resume"`
}

type gateFile struct {
	Where    whereFile     `toml:"where"`
	Approval *approvalFile `toml:"approval"`
}

type expectFile struct {
	Name   string          `toml:"name"`
	Action leaf[Action]    `toml:"action"`
	Role   leaf[Role]      `toml:"role"`
	Email  string          `toml:"email"`
	Person string          `toml:"person"`
	Key    *leaf[key.ID]   `toml:"key"`
	Agent  string          `toml:"agent"`
	Tags   []string        `toml:"tags"`
	User   *leaf[userName] `toml:"user"`
	Argv   []string        `toml:"argv"`
	Cwd    string          `toml:"cwd"`
	Env    []string        `toml:"env"`
	Target *leaf[target]   `toml:"target"`
	At     *leaf[instant]  `toml:"at"`
	Want   leaf[Effect]    `toml:"want"`
	Rule   string          `toml:"rule"`
}
