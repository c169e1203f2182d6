//go:build unix

package process

import (
	"errors"
	"os"
	"os/user"
	"path"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Account is a login user of this host.
type Account struct {
	Name   string
	UID    uint32
	GID    uint32
	Groups []uint32 // supplementary ones, the primary group among them
	Home   string
	Shell  string
}

const maxLoginName = 64 // bytes; our choice, above what systems allow

// LookUp finds a login user; "" is the user this process runs as. Everybody else
// can be had only when this process is root, must not be written as a number,
// must have a home and a login shell, and is not root under another name
// (attack H7). Refusal: UserNotAllowed; it does not say which users exist, the
// error around it says for the agent's own log why. On Linux an account that has
// expired is refused as well, and with Unavailable every one while a file nologin
// closes the host to logins, or while it cannot be read who has expired.
func LookUp(name string) (Account, error) {
	self := os.Geteuid()
	if name == "" {
		return own(self)
	}
	if len(name) > maxLoginName || isNumber(name) || strings.ContainsAny(name, ":/\n\x00") {
		return Account{}, closed("what was asked for is no name of a user")
	}
	u, err := user.Lookup(name)
	if errors.As(err, new(user.UnknownUserError)) {
		return Account{}, closed("there is no user %q", name)
	}
	if err != nil {
		return Account{}, closed("looking up the user %q: %v", name, err)
	}
	a, err := account(u)
	if err != nil {
		return Account{}, closed("reading the account of %q: %v", name, err)
	}
	if int(a.UID) == self {
		// A second name of the agent's own user would slip past a rule that names the first.
		if me, err := own(self); err != nil || me.Name != a.Name {
			return Account{}, closed("%q is a second name of the agent's own user", name)
		}
		return a, nil
	}
	if err := a.forPeople(name, self); err != nil {
		return Account{}, err
	}
	if err := system("/").open(a, time.Now()); err != nil {
		return Account{}, err
	}
	return a, nil
}

// forPeople refuses what nobody may log in to by way of a process of self's.
func (a Account) forPeople(name string, self int) error {
	info, err := os.Stat(a.Home)
	switch {
	case self != 0:
		return closed("the agent is not root, so it has its own user only, not %q", name)
	case a.UID == 0:
		return closed("%q is root under another name", name)
	case a.Name != name:
		return closed("%q is called %q in the table of users", name, a.Name)
	case err != nil:
		return closed("the home of %q: %v", name, err)
	case !info.IsDir():
		return closed("the home of %q is not a folder: %q", name, a.Home)
	case noLogin(a.Shell):
		return closed("%q is closed to people: the login shell is %q", name, a.Shell)
	}
	return nil
}

// nobodyID is the number that systems without a user "nobody" have for it.
const nobodyID = 65534

// Nobody returns the user for what needs no rights: "nobody" without any group but
// its own when this process is root, else the user that it runs as.
func Nobody() (Account, error) {
	if self := os.Geteuid(); self != 0 {
		return own(self)
	}
	a := Account{Name: "nobody", UID: nobodyID, GID: nobodyID, Home: "/", Shell: "/bin/false"}
	u, err := user.Lookup(a.Name)
	if err != nil {
		return a, nil // a container without a table of users
	}
	found, err := account(u)
	if err != nil || found.UID == 0 || found.GID == 0 {
		return Account{}, refusal.New(refusal.UserNotAllowed, "the user nobody of this host cannot be had")
	}
	a.UID, a.GID = found.UID, found.GID
	return a, nil
}

// own is lenient: a service account or a container may lack all but the number.
func own(uid int) (Account, error) {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return Account{UID: uint32(uid), GID: uint32(os.Getegid()), Home: "/", Shell: "/bin/sh"}, nil
	}
	a, err := account(u)
	if err != nil {
		return Account{}, refusal.New(refusal.UserNotAllowed, "the agent's own user cannot be looked up")
	}
	if info, err := os.Stat(a.Home); err != nil || !info.IsDir() {
		a.Home = "/"
	}
	if noLogin(a.Shell) {
		a.Shell = "/bin/sh"
	}
	return a, nil
}

func account(u *user.User) (Account, error) {
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return Account{}, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return Account{}, err
	}
	ids, err := u.GroupIds()
	if err != nil {
		return Account{}, err
	}
	shell, err := loginShell(accountTable, u.Username)
	if err != nil {
		return Account{}, err
	}
	a := Account{Name: u.Username, UID: uint32(uid), GID: uint32(gid), Home: u.HomeDir, Shell: shell}
	for _, id := range ids {
		g, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return Account{}, err
		}
		a.Groups = append(a.Groups, uint32(g))
	}
	if runtime.GOOS == "darwin" { // setgroups there takes no more; the rest are not had, which only takes rights away
		a.Groups = a.Groups[:min(len(a.Groups), maxDarwinGroups)]
	}
	return a, nil
}

// maxDarwinGroups is NGROUPS_MAX of macOS, whose users are often in more.
const maxDarwinGroups = 16

// noLogin reports an account that is closed to people.
func noLogin(shell string) bool {
	switch path.Base(shell) {
	case "nologin", "false", "true", "sync", "halt", "shutdown":
		return true
	}
	return false
}

func isNumber(s string) bool {
	_, err := strconv.ParseInt(s, 0, 64)
	return err == nil
}

const (
	accountTable    = "/etc/passwd"
	maxAccountTable = 16 << 20 // bytes; our choice
)

// loginShell reads the last field of the user's line in the account table.
// Accounts from a directory service have none there and get the system's shell. A
// table that cannot be read to its end is an error: the line that closes an account to
// people may stand in the rest.
func loginShell(table, name string) (shell string, err error) {
	err = eachLine(table, maxAccountTable, func(line string) {
		fields := strings.Split(line, ":")
		if shell == "" && len(fields) == 7 && fields[0] == name && path.IsAbs(fields[6]) {
			shell = fields[6]
		}
	})
	if shell == "" {
		shell = systemShell()
	}
	return shell, err
}

func systemShell() string {
	for _, shell := range []string{"/bin/bash", "/bin/zsh"} {
		if info, err := os.Stat(shell); err == nil && executable(info) {
			return shell
		}
	}
	return "/bin/sh"
}
