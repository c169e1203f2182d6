package remote

import (
	"slices"

	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
)

// shellsFile keeps where this client has left shells, so that a name is enough to get
// one back. A hint: the machine alone knows which ones there are.
const (
	shellsFile    = "shells.json"
	maxShellsFile = 64 << 10
	maxShellsLeft = 128 // entries; our choice
)

// leftShell is one entry; the first of the file was left last.
type leftShell struct {
	Name string `json:"name"`
	place
}

// shellMemory is the file in a state folder. A damaged one is no memory.
type shellMemory struct{ home account.Home }

func shellsLeft(home account.Home) shellMemory { return shellMemory{home} }

func (m shellMemory) read() []leftShell {
	var list []leftShell
	if m.home.ReadJSON(shellsFile, maxShellsFile, &list) != nil || len(list) > maxShellsLeft {
		return nil
	}
	return slices.DeleteFunc(list, func(s leftShell) bool {
		return !(&wire.Keep{Do: wire.KeepAttach, Name: s.Name}).Valid()
	})
}

func (m shellMemory) write(list []leftShell) {
	_ = m.home.WriteJSON(shellsFile, list[:min(len(list), maxShellsLeft)]) // HOST can be typed
}

// here notes a shell that this client has.
func (m shellMemory) here(name string, p place) {
	s := leftShell{name, p}
	list := slices.DeleteFunc(m.read(), func(have leftShell) bool { return have == s })
	m.write(slices.Insert(list, 0, s))
}

// gone notes that one has ended.
func (m shellMemory) gone(name string, p place) {
	m.write(slices.DeleteFunc(m.read(), func(have leftShell) bool { return have == leftShell{name, p} }))
}

// are notes which ones a machine has, of those that were left there.
func (m shellMemory) are(p place, list []keptShell) {
	m.write(slices.DeleteFunc(m.read(), func(have leftShell) bool {
		return have.place == p && !slices.ContainsFunc(list, func(s keptShell) bool { return s.Name == have.Name })
	}))
}

// of are the places of a name.
func (m shellMemory) of(name string) (found []place) {
	for _, s := range m.read() {
		if s.Name == name {
			found = append(found, s.place)
		}
	}
	return found
}

// places are all of them, each once.
func (m shellMemory) places() (list []place) {
	for _, s := range m.read() {
		if !slices.Contains(list, s.place) {
			list = append(list, s.place)
		}
	}
	return list
}
