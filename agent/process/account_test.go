//go:build unix

package process

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

func TestH7OnlyRealLoginUsersAreFound(t *testing.T) {
	for _, name := range []string{"no-such-user", "0", "1000", "0x0", "root:x", "../root", "a\nb", "a\x00b", strings.Repeat("a", 65)} {
		if a, err := LookUp(name); refusal.Of(err) != refusal.UserNotAllowed {
			t.Errorf("%q: %+v, %v", name, a, err)
		}
	}
	// Accounts that are closed to people, or without a home.
	for _, name := range []string{"nobody", "daemon", "bin", "sync"} {
		if a, err := LookUp(name); err == nil {
			t.Errorf("%q: %+v", name, a)
		}
	}
}

// The agent's log says why, and the operator, who gets the refusal's detail, does not
// learn which users there are.
func TestH7CauseIsForTheLogAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("this test wants root")
		}
		t.Skip("this test wants root: run it with sudo")
	}
	for name, cause := range map[string]string{
		"no-such-user": `there is no user "no-such-user"`,
		"1000":         "no name of a user",
		"daemon":       `"daemon" is closed to people: the login shell is "/`,
	} {
		_, err := LookUp(name)
		var told *refusal.Error
		if !errors.As(err, &told) || told.Code != refusal.UserNotAllowed || told.Detail != "this login user cannot be had on this host" {
			t.Errorf("%q: the operator is told %+v", name, told)
		}
		if err == nil || !strings.Contains(err.Error(), cause) {
			t.Errorf("%q: the log has %v, want %q", name, err, cause)
		}
	}
	root := Account{Name: "toor", UID: 0, Home: "/"}
	for cause, err := range map[string]error{
		"root under another name": root.forPeople("toor", 0),
		"its own user only":       Account{Name: "ann", UID: 1000, Home: "/", Shell: "/bin/sh"}.forPeople("ann", 1000),
		`is called "ann"`:         Account{Name: "ann", UID: 1000, Home: "/", Shell: "/bin/sh"}.forPeople("ANN", 0),
		"the home of \"ann\": ":   Account{Name: "ann", UID: 1000, Home: "/no/such/home", Shell: "/bin/sh"}.forPeople("ann", 0),
		"is not a folder":         Account{Name: "ann", UID: 1000, Home: "/etc/passwd", Shell: "/bin/sh"}.forPeople("ann", 0),
	} {
		if err == nil || !strings.Contains(err.Error(), cause) {
			t.Errorf("%v, want %q", err, cause)
		}
	}
}

func TestOwnUserIsFoundWithoutAName(t *testing.T) {
	a, err := LookUp("")
	if err != nil || int(a.UID) != os.Geteuid() || a.Home == "" || a.Shell == "" {
		t.Fatalf("%+v, %v", a, err)
	}
	if a.Name == "" {
		t.Skip("this user has no name here")
	}
	b, err := LookUp(a.Name)
	if err != nil || b.UID != a.UID || !slices.Equal(a.Groups, b.Groups) {
		t.Errorf("by name: %+v, %v", b, err)
	}
}

func TestE8EnvironmentHasAFixedBase(t *testing.T) {
	a := Account{Name: "ann", Home: "/home/ann", Shell: "/bin/sh"}
	env, err := environment(system(t.TempDir()), a, "xterm", []Variable{{"LC_ALL", "C"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"HOME=/home/ann", "USER=ann", "LOGNAME=ann", "SHELL=/bin/sh", "PATH=" + Path, "SSH_CONNECTION=UNKNOWN 65535 UNKNOWN 65535", "TERM=xterm", "LC_ALL=C", "LANG=C.UTF-8"}
	if !slices.Equal(env, want) {
		t.Errorf("got %q", env)
	}
	for _, v := range []Variable{{"PATH", "/tmp"}, {"HOME", "/"}, {"SSH_CLIENT", "x"}, {"SSH_CONNECTION", "x"}, {"SSH_TTY", "x"}, {"", "x"}, {"A=B", "x"}, {"1A", "x"}, {"A B", "x"}, {"A", "x\x00y"}, {"A", strings.Repeat("x", maxEnvValue+1)}, {strings.Repeat("A", maxEnvName+1), ""}} {
		if _, err := Environment(a, "", []Variable{v}); refusal.Of(err) != refusal.EnvNotAllowed {
			t.Errorf("%q: %v", v.Name, err)
		}
	}
	if _, err := Environment(a, "", []Variable{{"A", "1"}, {"A", "2"}}); refusal.Of(err) != refusal.EnvNotAllowed {
		t.Errorf("twice: %v", err)
	}
}

// An account that is closed to people stays so when its line cannot be reached, and one
// that stands in no table has the system's shell.
func TestH7NobodyGetsAShellWhereTheTableCannotBeRead(t *testing.T) {
	table := filepath.Join(t.TempDir(), "passwd")
	closed := "svc:x:900:900::/home/svc:/usr/sbin/nologin\n"
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(table, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("ann:x:1000:1000:" + strings.Repeat("x", 100<<10) + ":/home/ann:/bin/sh\n" + closed)
	if shell, err := loginShell(table, "svc"); err == nil {
		t.Errorf("behind a long line: %q", shell)
	}
	write("ann:x:1000:1000::/home/ann:/bin/sh\n" + closed)
	if shell, err := loginShell(table, "svc"); err != nil || shell != "/usr/sbin/nologin" {
		t.Errorf("%q, %v", shell, err)
	}
	if shell, err := loginShell(table, "of-a-directory"); err != nil || shell != systemShell() {
		t.Errorf("%q, %v", shell, err)
	}
	if shell, err := loginShell(table+"-missing", "svc"); err != nil || shell != systemShell() {
		t.Errorf("no table: %q, %v", shell, err)
	}
}
