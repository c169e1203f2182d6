// Package mistyped finds what somebody meant who mistyped a name: a machine, a key of
// a file. What it finds is for a hint, never for going on with.
package mistyped

// maxMeant is how many names a mistyped one is answered with; our choice.
const maxMeant = 3

// Meant are the first few of known that one letter would make of typed, each once: one
// too many, missing, another or two turned round. Further away is a guess, and a wrong
// guess sends its reader off.
func Meant(typed string, known []string) (names []string) {
	seen := map[string]bool{}
	for _, name := range known {
		if len(names) < maxMeant && !seen[name] && near(typed, name) {
			names, seen[name] = append(names, name), true
		}
	}
	return names
}

func near(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	switch rest, other := a[i:], b[i:]; {
	case a == b || len(b)-len(a) > 1 || len(a) == 0:
		return false
	case len(b) > len(a):
		return rest == other[1:]
	case rest[1:] == other[1:]:
		return true
	default:
		return len(rest) > 1 && rest[0] == other[1] && rest[1] == other[0] && rest[2:] == other[2:]
	}
}
