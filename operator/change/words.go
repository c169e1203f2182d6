package change

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/terminal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// Words says what the change does, one thing per line, for a person who is asked
// to sign it. Everything that comes from the file is escaped. policyText is the
// text in force, nil when it is not at hand; then the new one is shown whole.
func (c *Change) Words(policyText []byte) []string {
	w := &words{}
	a, b := c.Before.Roster(), c.After
	if a.Version == 0 {
		root, _ := roster.OpenRoot(c.Root, c.Before.Fingerprint()) // Before rests on it
		w.add("founds", "team %s, fingerprint %s", root.Name, c.Before.Fingerprint())
	} else {
		w.add("roster", "version %d of team %s becomes version %d", a.Version, b.Team, b.Version)
	}
	if a.Version == 0 {
		a.Owners, a.Threshold = nil, 0 // the root names them, and nobody has seen it yet
	}
	w.owners(a, b)
	w.operators(a, b)
	w.enrollers(a, b)
	w.servers(a, b)
	w.revoked(a, b)
	if a.MinVersion != b.MinVersion {
		w.add("programs", "at least version %s, was %s", orNone(b.MinVersion), orNone(a.MinVersion))
	}
	if a.PolicyHash != b.PolicyHash {
		w.add("rules", "hash %s; lines that change:", b.PolicyHash)
		w.lines = append(w.lines, diff(policyText, c.Policy)...)
	}
	w.add("expires", "%s", b.ExpiresAt.Time().Format(time.RFC3339))
	w.signatures(c)
	return w.lines
}

// words collects lines.
type words struct{ lines []string }

func (w *words) add(about, format string, args ...any) {
	w.lines = append(w.lines, fmt.Sprintf("%-10s%s", about, terminal.Escape(fmt.Sprintf(format, args...))))
}

func (w *words) owners(a, b roster.Roster) {
	name := func(o key.Public[key.Owner]) string { return fmt.Sprintf("owner %s, key %s", o.ID().ShortCode(), o) }
	compare(a.Owners, b.Owners, key.Public[key.Owner].ID,
		func(o key.Public[key.Owner]) { w.add("ADDS", "%s", name(o)) },
		func(o key.Public[key.Owner]) { w.add("REMOVES", "%s", name(o)) }, nil)
	if a.Threshold != b.Threshold || len(a.Owners) != len(b.Owners) {
		was := ""
		if a.Threshold > 0 {
			was = fmt.Sprintf(", was %d of %d", a.Threshold, len(a.Owners))
		}
		w.add("owners", "from then on %d of %d must sign%s", b.Threshold, len(b.Owners), was)
	}
}

func (w *words) operators(a, b roster.Roster) {
	name := func(o roster.Operator) string {
		s := fmt.Sprintf("%s as %s, person %s, key %s", o.Email, o.Role, o.Person, o.Key.ID().ShortCode())
		if o.NotAfter != 0 {
			s += ", until " + o.NotAfter.Time().Format(time.RFC3339)
		}
		return s
	}
	compare(a.Operators, b.Operators, func(o roster.Operator) key.ID { return o.Key.ID() },
		func(o roster.Operator) { w.add("adds", "%s", name(o)) },
		func(o roster.Operator) { w.add("removes", "%s", name(o)) },
		func(was, is roster.Operator) {
			if was != is {
				w.add("changes", "%s, was %s", name(is), name(was))
			}
		})
}

func (w *words) enrollers(a, b roster.Roster) {
	name := func(e roster.Enroller) string {
		return fmt.Sprintf("enroller %s, who may give the tags [%s] for %v", e.Key.ID().ShortCode(), strings.Join(e.Tags, " "), time.Duration(e.MaxLifetime)*time.Second)
	}
	compare(a.Enrollers, b.Enrollers, func(e roster.Enroller) key.ID { return e.Key.ID() },
		func(e roster.Enroller) { w.add("adds", "%s", name(e)) },
		func(e roster.Enroller) { w.add("removes", "%s", name(e)) },
		func(was, is roster.Enroller) {
			if name(was) != name(is) {
				w.add("changes", "%s, was %s", name(is), name(was))
			}
		})
}

func (w *words) servers(a, b roster.Roster) {
	name := func(s roster.Server) string {
		return fmt.Sprintf("server %s at %s, TLS key %s, keys %s %s %s", s.Name, s.URL, s.Keys.TLS,
			s.Keys.Access.ID().ShortCode(), s.Keys.Grant.ID().ShortCode(), s.Keys.Audit.ID().ShortCode())
	}
	compare(a.Servers, b.Servers, func(s roster.Server) key.ID { return s.Keys.Access.ID() },
		func(s roster.Server) { w.add("ADDS", "%s", name(s)) },
		func(s roster.Server) { w.add("REMOVES", "%s", name(s)) },
		func(was, is roster.Server) {
			if was != is {
				w.add("CHANGES", "%s, was %s", name(is), name(was))
			}
		})
}

// revoked names the person where the key is in the roster. That a revoked key
// comes back is what a thief of one owner's key would want.
func (w *words) revoked(a, b roster.Roster) {
	who := make(map[key.ID]string)
	for _, o := range slices.Concat(a.Operators, b.Operators) {
		who[o.Key.ID()] = " of " + o.Email
	}
	same := func(id key.ID) key.ID { return id }
	compare(a.Revoked, b.Revoked, same,
		func(id key.ID) { w.add("revokes", "key %s%s", id, who[id]) },
		func(id key.ID) { w.add("WARNING", "takes back that key %s%s is revoked", id, who[id]) }, nil)
}

func (w *words) signatures(c *Change) {
	w.add("signed by", "%s", codes(c.Signed))
	if c.Short > 0 {
		w.add("needs", "%d more of %s", c.Short, codes(c.Owners))
	}
}

func codes(ids []key.ID) string {
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = id.ShortCode()
	}
	return strings.Join(list, ", ")
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// compare walks two lists whose entries have keys: what is new, what is gone, and
// what is in both, in this order.
func compare[T any](before, after []T, id func(T) key.ID, added, removed func(T), both func(was, is T)) {
	had := make(map[key.ID]T, len(before))
	for _, v := range before {
		had[id(v)] = v
	}
	for _, v := range after {
		was, ok := had[id(v)]
		switch {
		case !ok:
			added(v)
		case both != nil:
			both(was, v)
		}
		delete(had, id(v))
	}
	for _, v := range before {
		if _, gone := had[id(v)]; gone {
			removed(v)
		}
	}
}

// maxCells bounds the table that diff compares lines in: two texts of 2,000 lines
// that share nothing. Our choice.
const maxCells = 4 << 20

// diff shows the lines that differ, with their numbers. What a rule names a machine
// compares byte by byte, so each line stands there exactly, and where that cannot be read, as
// with a comment in another script, once more below (attacks E9, J5).
func diff(before, after wire.Bytes) (out []string) {
	a, b := strings.Split(string(before), "\n"), strings.Split(string(after), "\n")
	if len(before) == 0 {
		a = nil
	}
	start := 0
	for start < min(len(a), len(b)) && a[start] == b[start] {
		start++
	}
	end := 0
	for end < min(len(a), len(b))-start && a[len(a)-1-end] == b[len(b)-1-end] {
		end++
	}
	show := func(mark string, line int, text string) {
		exact, reads := terminal.Exact(text), terminal.Escape(text)
		out = append(out, fmt.Sprintf("  %s%4d  %s", mark, line+1, exact))
		if reads != exact {
			out = append(out, "         reads: "+reads)
		}
	}
	walk(a[start:len(a)-end], b[start:len(b)-end],
		func(i int) { show("-", start+i, a[start+i]) }, func(j int) { show("+", start+j, b[start+j]) })
	return out
}

// walk calls gone and added for the lines outside a longest common subsequence.
func walk(a, b []string, gone, added func(int)) {
	i, j := 0, 0
	if len(a)*len(b) <= maxCells {
		common := table(a, b)
		for i < len(a) && j < len(b) {
			switch {
			case a[i] == b[j]:
				i, j = i+1, j+1
			case common[i+1][j] >= common[i][j+1]:
				gone(i)
				i++
			default:
				added(j)
				j++
			}
		}
	}
	for ; i < len(a); i++ {
		gone(i)
	}
	for ; j < len(b); j++ {
		added(j)
	}
}

// table has at [i][j] how many lines a[i:] and b[j:] have in common, in order.
func table(a, b []string) [][]int32 {
	t := make([][]int32, len(a)+1)
	for i := range t {
		t[i] = make([]int32, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				t[i][j] = t[i+1][j+1] + 1
			} else {
				t[i][j] = max(t[i+1][j], t[i][j+1])
			}
		}
	}
	return t
}
