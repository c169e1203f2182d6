package wire

// Keep makes a shell one that is kept: it runs on when its session ends, whatever
// ends that, and a later session of the same operator gets it back by its name
// (protocol 2.3). The policy is asked about a shell each time.
type Keep struct {
	Do   KeepDo `json:"do"`
	Name string `json:"name"` // "" with KeepList alone
}

// KeepDo is what a request wants of kept shells.
type KeepDo string

// What there is to do.
const (
	KeepOpen   KeepDo = "open"   // start the shell, or get it back where one of that name runs
	KeepAttach KeepDo = "attach" // get it back, and start none
	KeepList   KeepDo = "list"   // say which ones of the operator's own there are
	KeepKill   KeepDo = "kill"   // end it
)

// Runs reports whether the session is joined to a program.
func (k *Keep) Runs() bool { return k != nil && (k.Do == KeepOpen || k.Do == KeepAttach) }

// maxKeepName is the longest name of a kept shell in bytes; our choice.
const maxKeepName = 32

// Valid reports whether k is something that exists, with a name of letters, digits,
// dots, dashes and underscores that begins with a letter or digit: it is shown, and
// typed again.
func (k *Keep) Valid() bool {
	switch k.Do {
	case KeepList:
		return k.Name == ""
	case KeepOpen, KeepAttach, KeepKill:
		return validKeepName(k.Name)
	}
	return false
}

func validKeepName(s string) bool {
	for i, c := range []byte(s) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || c != '.' && c != '-' && c != '_') {
			return false
		}
	}
	return s != "" && len(s) <= maxKeepName
}
