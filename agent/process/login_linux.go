package process

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// Limits of the files that say what a login gets; our choice. All of them are root's.
const (
	maxLoginFile  = 256 << 10 // bytes
	maxSystemVars = 256
	maxShadow     = 16 << 20 // bytes
)

// system is a folder in which etc and run lie; "/" but in tests.
type system string

// loginVariables are those that everybody who logs in here gets, as login and PAM's
// pam_env give them: the path of login.defs, /etc/environment, and the language of the
// files that distributions keep it in. Later ones of a name count.
func (s system) loginVariables(root bool) (list []Variable) {
	pathKey := "ENV_PATH"
	if root {
		pathKey = "ENV_SUPATH"
	}
	s.definitions(func(key, value string) {
		if p := strings.TrimPrefix(value, "PATH="); key == pathKey && p != "" {
			list = append(list, Variable{"PATH", p})
		}
	})
	s.variables("etc/environment", func(v Variable) { list = append(list, v) })
	for _, file := range []string{"etc/locale.conf", "etc/default/locale"} {
		s.variables(file, func(v Variable) {
			if v.Name == "LANG" || v.Name == "LANGUAGE" || strings.HasPrefix(v.Name, "LC_") {
				list = append(list, v)
			}
		})
	}
	return list[:min(len(list), maxSystemVars)]
}

// path is where a file of the system is.
func (s system) path(file string) string { return filepath.Join(string(s), file) }

// definitions reads login.defs(5), as far as it can be read: what is missing is a search
// path, and nobody is kept out or let in by that.
func (s system) definitions(f func(key, value string)) {
	_ = eachLine(s.path("etc/login.defs"), maxLoginFile, func(line string) {
		if fields := strings.Fields(line); len(fields) >= 2 && !strings.HasPrefix(fields[0], "#") {
			f(fields[0], fields[1])
		}
	})
}

// variables reads a file as pam_env(8) does: NAME=value lines with an optional
// "export", no expansion; "#" begins a comment anywhere, quotes around a value go. What
// cannot be read is left out: it gives a login nothing but comfort.
func (s system) variables(file string, f func(Variable)) {
	_ = eachLine(s.path(file), maxLoginFile, func(line string) {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimPrefix(strings.TrimSpace(line), "export ")
		name, value, ok := strings.Cut(line, "=")
		if !ok || !validName(name) || len(value) > maxEnvValue || strings.ContainsRune(value, 0) {
			return
		}
		if value != "" && strings.ContainsRune(`"'`, rune(value[0])) {
			value = value[1:]
			if n := len(value); n > 0 && strings.ContainsRune(`"'`, rune(value[n-1])) {
				value = value[:n-1]
			}
		}
		f(Variable{name, value})
	})
}

// open refuses with UserNotAllowed the login of an account that has expired, and with
// Unavailable every one while the administrator has closed the host, as sshd does, or
// while it cannot be read whether one of both is so.
// The agent's own user is not asked about: root could always log in, and another one
// is a service's, that may not read who has expired and serves nobody else.
func (s system) open(a Account, now time.Time) error {
	for _, file := range []string{"etc/nologin", "run/nologin"} {
		switch _, err := os.Lstat(s.path(file)); {
		case err == nil:
			return refusal.New(refusal.Unavailable, "logins are closed on this host: /%s is there", file)
		case !errors.Is(err, fs.ErrNotExist):
			return unknown(err)
		}
	}
	expired, odd := false, false
	err := eachLine(s.path("etc/shadow"), maxShadow, func(line string) { // root alone can read it
		fields := strings.Split(line, ":")
		if len(fields) < 8 || fields[0] != a.Name || fields[7] == "" {
			return
		}
		day, err := strconv.ParseInt(fields[7], 10, 64)
		odd = odd || err != nil
		expired = expired || err == nil && day >= 0 && now.Unix()/(24*60*60) >= day
	})
	switch {
	case expired:
		return closed("the account of %q has expired", a.Name)
	case err != nil:
		return unknown(err)
	case odd:
		return unknown(fmt.Errorf("the day on which the account of %q expires is no number", a.Name))
	}
	return nil
}

// unknown refuses a login because it cannot be found out whether it is kept out. The
// cause is for the agent's log, as that of closed is.
func unknown(cause error) error {
	return fmt.Errorf("%w (%v)", refusal.New(refusal.Unavailable, "who may log in on this host cannot be found out"), cause)
}

// AsLogin calls start on a thread that has the audit id of a user who logged in, which
// what start starts inherits and keeps through every su: the kernel's audit log says by
// it who began something, and last(1) believes a record by it. Without audit in the
// kernel, or where it may not be set, start runs all the same.
func AsLogin(uid uint32, start func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine, and nothing else runs on it
		if f, err := os.OpenFile("/proc/thread-self/loginuid", os.O_WRONLY, 0); err == nil {
			_, _ = f.WriteString(strconv.FormatUint(uint64(uid), 10))
			_ = f.Close()
		}
		done <- start()
	}()
	return <-done
}

// MessageOfTheDay is what a login shell on a terminal begins with, unless the user has
// a file .hushlogin: what the system made at its start or since, then /etc/motd. What
// cannot be read of them is not shown; no login waits for a greeting.
func MessageOfTheDay(home string) []byte { return system("/").message(home) }

const maxMessage = 64 << 10 // bytes; our choice

func (s system) message(home string) (text []byte) {
	if _, err := os.Lstat(filepath.Join(home, ".hushlogin")); err == nil {
		return nil
	}
	for _, file := range []string{"run/motd.dynamic", "etc/motd"} {
		if f, err := os.Open(s.path(file)); err == nil {
			part, _ := io.ReadAll(io.LimitReader(f, maxMessage))
			_ = f.Close()
			text = append(text, part...)
		}
	}
	return text
}
