package process

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
)

// files makes a system with these files.
func files(t *testing.T, list map[string]string) system {
	t.Helper()
	dir := t.TempDir()
	for name, text := range list {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return system(dir)
}

func TestLoginGetsWhatTheSystemGives(t *testing.T) {
	s := files(t, map[string]string{
		"etc/login.defs":     "# ENV_PATH PATH=/wrong\nENV_PATH\tPATH=/usr/bin:/usr/games\nENV_SUPATH /usr/sbin\n",
		"etc/environment":    "# comment\nexport A=1\nB=\"two words\" # why\nC='x'\nD=\nbad name=1\nE\n  F=a=b  \nHOME=/wrong\nLOGNAME=wrong\nSSH_CLIENT=wrong\nSSH_TTY=wrong\nLANG=C\nLC_ALL=POSIX\n",
		"etc/default/locale": "LANG=en_GB.UTF-8\nPATH=/not/here\n",
	})
	a := Account{Name: "ann", UID: 1000, Home: "/home/ann", Shell: "/bin/sh"}
	got, err := environment(s, a, "xterm", []Variable{{"LC_ALL", "C"}})
	want := []string{
		"HOME=/home/ann", "USER=ann", "LOGNAME=ann", "SHELL=/bin/sh", "PATH=/usr/bin:/usr/games",
		"A=1", "B=two words", "C=x", "D=", "F=a=b", "LANG=en_GB.UTF-8", "LC_ALL=C", "SSH_CONNECTION=UNKNOWN 65535 UNKNOWN 65535", "TERM=xterm",
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	a.UID = 0
	if got, _ = environment(s, a, "", nil); !slices.Contains(got, "PATH=/usr/sbin") {
		t.Errorf("root gets %q", got)
	}
	s = files(t, map[string]string{"etc/login.defs": "ENV_PATH PATH=/a\n", "etc/environment": "PATH=/from/environment\n"})
	if got, _ = environment(s, Account{UID: 1}, "", nil); !slices.Contains(got, "PATH=/from/environment") {
		t.Errorf("PATH of /etc/environment does not count: %q", got)
	}
}

func TestClosedHostAndExpiredAccount(t *testing.T) {
	now := time.Unix(20000*24*3600+7, 0)
	ann := Account{Name: "ann", UID: 1000}
	for name, c := range map[string]struct {
		files map[string]string
		code  refusal.Code
	}{
		"open":          {nil, ""},
		"closed":        {map[string]string{"etc/nologin": "maintenance\n"}, refusal.Unavailable},
		"still booting": {map[string]string{"run/nologin": ""}, refusal.Unavailable},
		"expired":       {map[string]string{"etc/shadow": "bob:*:1:0:9:7::1:\nann:!:1:0:99999:7::20000:\n"}, refusal.UserNotAllowed},
		"not yet":       {map[string]string{"etc/shadow": "ann:*:1:0:99999:7::20001:\n"}, ""},
		"never":         {map[string]string{"etc/shadow": "ann:*:1:0:99999:7:::\n"}, ""},
		"garbage":       {map[string]string{"etc/shadow": "bob:*:1:0:9:7::x:\nann\n\n"}, ""},
		"no date":       {map[string]string{"etc/shadow": "ann:*:1:0:99999:7::x:\n"}, refusal.Unavailable},
		"twice":         {map[string]string{"etc/shadow": "ann:*:1:0:99999:7::20000:\nann:*:1:0:99999:7:::\n"}, refusal.UserNotAllowed},
	} {
		if err := files(t, c.files).open(ann, now); refusal.Of(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whether an account has expired is not known where the table of dates cannot be read to
// its end, and then nobody logs in. The operator is not told why.
func TestH7NobodyLogsInWhereExpiryCannotBeRead(t *testing.T) {
	expired := "ann:*:1:0:99999:7::1:\n"
	long := files(t, map[string]string{"etc/shadow": "bob:" + strings.Repeat("x", 100<<10) + ":1:0:9:7:::\n" + expired})
	large := files(t, map[string]string{"etc/shadow": strings.Repeat("#"+strings.Repeat("x", 32<<10)+"\n", maxShadow>>15) + expired})
	loop := files(t, map[string]string{"etc/passwd": ""})
	folder := files(t, map[string]string{"etc/shadow/x": ""})
	notes := files(t, map[string]string{"run": "not a folder"})
	if err := os.Symlink("shadow", filepath.Join(string(loop), "etc/shadow")); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]system{"a long line": long, "a large file": large, "a loop of links": loop, "a folder": folder, "a nologin that cannot be looked for": notes} {
		err := s.open(Account{Name: "ann", UID: 1000}, time.Now())
		var told *refusal.Error
		if !errors.As(err, &told) || told.Code != refusal.Unavailable || strings.Contains(told.Detail, "shadow") || err.Error() == told.Error() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMessageOfTheDayIsShownUnlessHushed(t *testing.T) {
	home := t.TempDir()
	s := files(t, map[string]string{"etc/motd": "static\n", "run/motd.dynamic": "dynamic\n"})
	if got := string(s.message(home)); got != "dynamic\nstatic\n" {
		t.Errorf("%q", got)
	}
	if err := os.WriteFile(filepath.Join(home, ".hushlogin"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := s.message(home); got != nil {
		t.Errorf("%q", got)
	}
	s = files(t, map[string]string{"etc/motd": strings.Repeat("x", 2*maxMessage)})
	if got := s.message("/nonexistent"); len(got) != maxMessage {
		t.Errorf("%d bytes", len(got))
	}
}

func FuzzSystemVariables(f *testing.F) {
	f.Add("A=1\nexport B='x'\n#\nC=\"y\" # z\n")
	f.Fuzz(func(t *testing.T, text string) {
		files(t, map[string]string{"etc/environment": text}).variables("etc/environment", func(v Variable) {
			if !validName(v.Name) || strings.ContainsAny(v.Value, "\x00\n") {
				t.Fatalf("%q", v)
			}
		})
	})
}
