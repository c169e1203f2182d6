package fleet

import (
	"slices"
	"strings"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Machine is one that could be meant.
type Machine struct {
	Name string   // by its verified certificate
	Tags []string // likewise; labels are those of the form label=value
}

// Target is one that is meant, with the login user that was asked for with it.
type Target struct {
	User string // "" is unsaid
	Name string // of the machine, without a user or a suffix
}

// String is "[user@]name".
func (t Target) String() string {
	if t.User == "" {
		return t.Name
	}
	return t.User + "@" + t.Name
}

// Selection is what a person typed for machines.
type Selection struct {
	all    bool
	groups []group
}

// group is one word: a list of names, or of labels that a machine has to have all.
type group struct {
	user   string
	names  []string
	labels []string
}

// limits of a selection; our choice.
const (
	maxWords = 1024
	maxItems = 1024 // of one word
)

// Parse reads words of the form "[user@]name[,name...]" or
// "[user@]label=value[,label=value...]". Machines of any of the words are meant; of
// labels in one word, all have to fit. Refusals: BadArgument.
func Parse(words []string) (Selection, error) {
	var s Selection
	if len(words) > maxWords {
		return s, refusal.New(refusal.TooLarge, "more than %d words for machines", maxWords)
	}
	for _, w := range words {
		g, err := parseWord(w)
		if err != nil {
			return s, err
		}
		s.groups = append(s.groups, g)
	}
	return s, nil
}

// All is every machine of the team.
func All() Selection { return Selection{all: true} }

func parseWord(word string) (g group, err error) {
	list := ""
	g.user, list = cutUser(word)
	items := strings.Split(list, ",")
	if len(items) > maxItems {
		return g, refusal.New(refusal.TooLarge, "more than %d machines in one word", maxItems)
	}
	for _, item := range items {
		switch {
		case item == "":
			return g, refusal.New(refusal.BadArgument, "%q has no name of a machine where one should be", word)
		case strings.Contains(item, "="):
			g.labels = append(g.labels, item)
		default:
			g.names = append(g.names, bare(item))
		}
	}
	if len(g.labels) > 0 && len(g.names) > 0 {
		return g, refusal.New(refusal.BadArgument, "%q mixes names and labels; write them as two words", word)
	}
	return g, nil
}

// ParseTarget reads "[user@]name" of one machine, as every verb takes it: the user ends
// at the last "@", and a name may have ssh's suffix. Name is "" where none is there.
func ParseTarget(word string) Target {
	user, name := cutUser(word)
	return Target{User: user, Name: bare(name)}
}

// cutUser is a word's user, "" for the agent's own, and what stands behind it.
func cutUser(word string) (user, rest string) {
	at := strings.LastIndex(word, "@")
	if user, rest = word[:max(at, 0)], word[at+1:]; user == self {
		user = ""
	}
	return user, rest
}

// bare is a machine's name without ssh's suffix.
func bare(name string) string { return strings.TrimSuffix(name, suffix) }

// suffix is what ssh's configuration marks our machines with.
const suffix = ".tucdesk"

// self is the policy's word for the user that the agent runs as, which is the one
// that is meant when none is said.
const self = "@agent"

// One returns the target if a single machine is named, which is then not looked for
// among others.
func (s Selection) One() (Target, bool) {
	if s.all || len(s.groups) != 1 || len(s.groups[0].names) != 1 {
		return Target{}, false
	}
	return Target{User: s.groups[0].user, Name: s.groups[0].names[0]}, true
}

// Absent is a name that no machine has. Whoever knows more of the machines can say what
// may have been meant.
type Absent struct{ Name string }

// Error is the refusal's text.
func (a *Absent) Error() string { return a.Unwrap().Error() }

// Unwrap returns the refusal: NotFound.
func (a *Absent) Unwrap() error {
	return refusal.New(refusal.NotFound, "no machine %q in this team", a.Name)
}

// Pick returns the targets among machines, in the order of their names, each once.
// A name or a set of labels that fits none is NotFound, a name as *Absent: it may be a
// typing error.
func (s Selection) Pick(machines []Machine) ([]Target, error) {
	var found []Target
	if s.all {
		for _, m := range machines {
			found = append(found, Target{Name: m.Name})
		}
	}
	for _, g := range s.groups {
		some, err := g.pick(machines)
		if err != nil {
			return nil, err
		}
		found = append(found, some...)
	}
	slices.SortFunc(found, func(a, b Target) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(a.User, b.User)
	})
	if found = slices.Compact(found); len(found) == 0 {
		return nil, refusal.New(refusal.NotFound, "the team has no machines")
	}
	return found, nil
}

func (g group) pick(machines []Machine) (found []Target, err error) {
	for _, name := range g.names {
		if !slices.ContainsFunc(machines, func(m Machine) bool { return m.Name == name }) {
			return nil, &Absent{Name: name}
		}
		found = append(found, Target{User: g.user, Name: name})
	}
	if len(g.labels) == 0 {
		return found, nil
	}
	for _, m := range machines {
		if !slices.ContainsFunc(g.labels, func(l string) bool { return !slices.Contains(m.Tags, l) }) {
			found = append(found, Target{User: g.user, Name: m.Name})
		}
	}
	if len(found) == 0 {
		return nil, refusal.New(refusal.NotFound, "no machine has the labels %q", strings.Join(g.labels, ","))
	}
	return found, nil
}
