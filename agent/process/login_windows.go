package process

import (
	"strings"

	"golang.org/x/sys/windows"
)

// reserved are names that additions may not have, besides the fixed ones: by them
// programs find the system, its shell, other programs, or whose they are.
var reserved = []string{"SYSTEMROOT", "WINDIR", "SYSTEMDRIVE", "COMSPEC", "PATHEXT", "USERNAME", "USERDOMAIN", "USERPROFILE", "HOMEDRIVE", "HOMEPATH", "APPDATA", "LOCALAPPDATA"}

// elsewhere is empty: programs of Windows look for no such variable.
var elsewhere []Variable

// sameName reports names of one variable: case does not count.
func sameName(a, b string) bool { return strings.EqualFold(a, b) }

// system is empty: there is one registry.
type system string

// loginVariables are those that Windows makes for everybody who logs in, out of the
// machine's and the user's settings, and of nothing that this process has.
func (system) loginVariables(bool) (list []Variable) {
	list = []Variable{{"PATH", searchPath()}}
	if root, err := windows.GetSystemWindowsDirectory(); err == nil {
		list = append(list, Variable{"SystemRoot", root}) // without it hardly a program starts
	}
	env, err := windows.GetCurrentProcessToken().Environ(false)
	if err != nil {
		return list
	}
	for _, entry := range env {
		if name, value, ok := strings.Cut(entry, "="); ok && name != "" { // "=C:=…" are not for programs
			list = append(list, Variable{name, value})
		}
	}
	return list
}

// AsLogin calls start.
func AsLogin(_ uint32, start func() error) error { return start() }

// MessageOfTheDay is empty here.
func MessageOfTheDay(string) []byte { return nil }
