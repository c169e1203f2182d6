package process

import (
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"golang.org/x/sys/windows"
)

// Account is a login user of this host.
type Account struct {
	Name   string   // in lower case and without domain
	UID    uint32   // not used here
	GID    uint32   // not used here
	Groups []uint32 // not used here
	Home   string
	Shell  string
}

// LookUp finds the user this process runs as, for "" and for its name, and nobody else:
// to act as another one Windows wants that one's password, or a right that makes the
// agent the machine itself. Names are in lower case and without the domain, so that one
// policy fits all machines; only that spelling is taken, because another one would slip
// past a rule that names this one (attack H7). Refusal: UserNotAllowed.
func LookUp(name string) (Account, error) {
	u, err := user.Current()
	if err != nil {
		return Account{}, closed("looking up the agent's own user: %v", err)
	}
	system, err := windows.GetSystemDirectory()
	if err != nil {
		return Account{}, closed("looking for the system's folder: %v", err)
	}
	a := Account{Name: shortName(u.Username), Home: u.HomeDir, Shell: filepath.Join(system, "cmd.exe")}
	if info, err := os.Stat(a.Home); err != nil || !info.IsDir() {
		a.Home = system
	}
	switch {
	case name == "" || name == a.Name:
		return a, nil
	case shortName(name) == a.Name:
		return Account{}, closed("%q is called %q here", name, a.Name)
	}
	return Account{}, closed("an agent on Windows has its own user only, %q, not %q", a.Name, name)
}

// shortName is the name of a user as policies write it.
func shortName(name string) string {
	return strings.ToLower(name[strings.LastIndexByte(name, '\\')+1:])
}

// Nobody returns the user this process runs as.
func Nobody() (Account, error) { return LookUp("") }
