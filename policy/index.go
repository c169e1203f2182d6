package policy

import (
	"slices"

	"github.com/tucdesk/tucdesk/crypto/key"
)

// index finds the rules that can match a request without looking at the others:
// a team has thousands of rules and each host or person a few. Every rule is
// filed under its most selective condition; under tags_any and similar lists it
// is filed several times, which does no harm, because counting a rule twice
// changes no decision.
type index struct {
	byKey    map[key.ID][]*rule
	byPerson map[string][]*rule
	byEmail  map[string][]*rule
	byAgent  map[string][]*rule
	byTag    map[string][]*rule
	rest     [len(actions)][]*rule // without any of these, by action; all of them under Ping

	allows actionSet // actions that some allow rule names, and Ping if there is one at all
}

func newIndex(rules []*rule) index {
	x := index{map[key.ID][]*rule{}, map[string][]*rule{}, map[string][]*rule{}, map[string][]*rule{}, map[string][]*rule{}, [len(actions)][]*rule{}, 0}
	for _, r := range rules {
		if !r.block {
			x.allows |= r.actions | Ping.bit()
		}
		x.file(r)
	}
	return x
}

func (x *index) file(r *rule) {
	switch {
	case r.keys != nil:
		for _, k := range r.keys {
			x.byKey[k] = append(x.byKey[k], r)
		}
	case r.people != nil:
		fileUnder(x.byPerson, r.people, r)
	case r.emails != nil:
		fileUnder(x.byEmail, r.emails, r)
	case r.where.agents != nil:
		fileUnder(x.byAgent, r.where.agents, r)
	case r.where.tagsAny != nil:
		fileUnder(x.byTag, r.where.tagsAny, r)
	case r.where.tagsAll != nil:
		fileUnder(x.byTag, x.rarest(r.where.tagsAll), r)
	default:
		for i, a := range actions {
			if (r.actions|Ping.bit())&a.bit() != 0 {
				x.rest[i] = append(x.rest[i], r)
			}
		}
	}
}

// rarest returns the one tag of list with the fewest rules so far: a host must
// have all of them, so any one will do.
func (x *index) rarest(list []string) []string {
	least := 0
	for i, t := range list {
		if len(x.byTag[t]) < len(x.byTag[list[least]]) {
			least = i
		}
	}
	return list[least : least+1]
}

func fileUnder(m map[string][]*rule, names []string, r *rule) {
	for i, name := range names {
		if !slices.Contains(names[:i], name) {
			m[name] = append(m[name], r)
		}
	}
}
