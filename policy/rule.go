package policy

import (
	"slices"
	"strings"

	"github.com/tucdesk/tucdesk/crypto/key"
)

// rule is one [[allow]] or [[block]] rule. Every condition written in it must
// hold; of a list, one element is enough. A nil list is no condition, except
// that an allow rule without users means the agent's own user only.
type rule struct {
	id          string
	description string
	line        int // of its header in the file, 0 when it has none
	block       bool

	actions  actionSet
	roles    RoleSet
	emails   []string
	people   []string
	keys     []key.ID
	where    where
	userList []string
	anyUser  bool
	commands []command
	cwd      []string
	targets  []string
	roots    []string
	when     *window

	approval Approval
	limits   Limits

	// Texts of decisions, made once so that Decide allocates nothing.
	whyAllowed, whyApproval, whyGated, whyBlocked string
}

type where struct {
	tagsAny, tagsAll, agents []string
}

// command is an exact argv, or with rest the beginning of one.
type command struct {
	argv []string
	rest bool
}

func (r *rule) who(f *whoFile, err *error) {
	r.roles = Roles(collect(err, "who.roles", f.Roles)...)
	if f.Roles == nil {
		r.roles = allRoles
	}
	r.emails = texts(collect(err, "who.emails", f.Emails))
	r.people = texts(collect(err, "who.people", f.People))
	r.keys = collect(err, "who.keys", f.Keys)
}

func (r *rule) users(list []userName) {
	r.userList = texts(list)
	if list == nil && r.block {
		r.anyUser = true
	} else if list == nil {
		r.userList = []string{AgentUser}
	}
}

func (r *rule) reasons() {
	r.whyAllowed = "allowed by rule " + r.id
	r.whyApproval = "rule " + r.id + " allows this after approval"
	r.whyGated = "rule " + r.id + " allows this, and the host is gated: everything but listed commands needs approval"
	r.whyBlocked = "blocked by rule " + r.id
}

// stage is the first condition of a rule that a request fails, in the order in
// which they are looked at, or matched. The further the nearest rule got, the
// more a denial can say about what is missing.
type stage uint8

const (
	failsAction stage = iota
	failsWho
	failsWhere
	failsUser
	failsCwd
	failsTarget
	failsCommand
	failsWhen
	matched
)

// match compares; s supplies the clock and the bit of the action.
func (r *rule) match(q *Request, s *clock) stage {
	if q.Action == Ping {
		return r.matchPing(q, s)
	}
	switch {
	case r.actions&s.action == 0:
		return failsAction
	case !r.matchWho(q):
		return failsWho
	case !r.where.match(q):
		return failsWhere
	case !r.matchUser(q):
		return failsUser
	case r.cwd != nil && !r.matchCwd(q.Cwd):
		return failsCwd
	case r.targets != nil && !r.matchTarget(q):
		return failsTarget
	case r.commands != nil && !r.matchCommand(q):
		return failsCommand
	case r.when != nil && !r.when.contains(s.wall(r.when.zone)):
		return failsWhen
	}
	return matched
}

// matchCwd compares folders. On Windows, whose paths begin with a drive, case says nothing.
func (r *rule) matchCwd(cwd string) bool {
	return slices.ContainsFunc(r.cwd, func(c string) bool {
		return c == cwd || c[0] != '/' && strings.EqualFold(c, cwd)
	})
}

// matchPing asks of an allow rule only who, where and when: whatever it allows, it
// allows to know that the host is there. A block rule that looks at what is run
// says nothing about that, nor does one for other actions; see tally.ping.
func (r *rule) matchPing(q *Request, s *clock) stage {
	switch {
	case !r.matchWho(q):
		return failsWho
	case !r.where.match(q):
		return failsWhere
	case r.block && !r.anyUser:
		return failsUser
	case r.block && r.cwd != nil:
		return failsCwd
	case r.block && r.targets != nil:
		return failsTarget
	case r.block && r.commands != nil:
		return failsCommand
	case r.when != nil && !r.when.contains(s.wall(r.when.zone)):
		return failsWhen
	case r.block && r.actions&s.action == 0:
		return failsAction
	}
	return matched
}

func (r *rule) matchWho(q *Request) bool {
	return r.roles.Has(q.Role) &&
		(r.keys == nil || slices.Contains(r.keys, q.Operator)) &&
		(r.people == nil || slices.Contains(r.people, q.Person)) &&
		(r.emails == nil || slices.Contains(r.emails, q.Email))
}

func (w *where) match(q *Request) bool {
	if w.agents != nil && !slices.Contains(w.agents, q.Agent) {
		return false
	}
	for _, t := range w.tagsAll {
		if !slices.Contains(q.Tags, t) {
			return false
		}
	}
	if w.tagsAny == nil {
		return true
	}
	for _, t := range w.tagsAny {
		if slices.Contains(q.Tags, t) {
			return true
		}
	}
	return false
}

// matchUser compares the login user. The agent's own user has two spellings,
// none at all and its name, and a rule may use either: otherwise asking for
// nobody in particular would pass a rule that blocks root.
func (r *rule) matchUser(q *Request) bool {
	if r.anyUser || q.User != "" && q.User != AgentUser && slices.Contains(r.userList, q.User) {
		return true
	}
	self := q.User == "" || q.User == q.Self
	return self && (slices.Contains(r.userList, AgentUser) || q.Self != "" && slices.Contains(r.userList, q.Self))
}

func (r *rule) matchCommand(q *Request) bool {
	for i := range r.commands {
		if r.block && r.commands[i].blocks(q) || !r.block && r.commands[i].allows(q) {
			return true
		}
	}
	return false
}

// allows reports whether c covers the request's program and arguments. Both the
// real file and the name it is called by must be c's: a file that is many
// programs, such as busybox or systemctl, chooses by the name.
func (c *command) allows(q *Request) bool {
	called := baseOf(q.Argv[0])
	if string(called) != base(c.argv[0]) {
		return false
	}
	if q.Unresolved {
		if len(called) != len(q.Argv[0]) && string(q.Argv[0]) != c.argv[0] {
			return false
		}
	} else if q.File != c.argv[0] {
		return false
	}
	return c.arguments(q.Argv[1:])
}

// blocks is wider than allows: a block rule holds for every file of that name
// and for every file called by that name, wherever it lies, so that another
// path to the same program does not pass (attack E6).
func (c *command) blocks(q *Request) bool {
	name := base(c.argv[0])
	return (base(q.File) == name || string(baseOf(q.Argv[0])) == name) && c.arguments(q.Argv[1:])
}

// arguments compares element by element; joining or splitting them never helps
// (attack E4).
func (c *command) arguments(argv [][]byte) bool {
	want := c.argv[1:]
	if len(argv) < len(want) || len(argv) > len(want) && !c.rest {
		return false
	}
	for i, w := range want {
		if string(argv[i]) != w {
			return false
		}
	}
	return true
}

// baseOf is base for bytes.
func baseOf(path []byte) []byte {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' || path[i] == '\\' {
			return path[i+1:]
		}
	}
	return path
}
