package operator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/teamtest"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
)

func TestPolicyVerbsOnFiles(t *testing.T) {
	good := teamtest.Write(t, "policy.toml", string(policy.Default()), 0o644)
	bad := teamtest.Write(t, "bad.toml", "format = 1\nnonsense = true\n", 0o644)
	wrong := teamtest.Write(t, "wrong.toml", string(policy.Default())+`
[[expect]]
name = "nobody copies \u001b[2J"
role = "viewer"
action = "copy"
want = "allow"
`, 0o644)
	for _, c := range []struct {
		args   []string
		status int
		out    string
		talk   string
	}{
		{[]string{"policy", "check", good}, 0, "can be used, hash ", ""},
		{[]string{"policy", "check", bad}, 1, "", "error: " + bad + ": "},
		{[]string{"policy", "check", filepath.Join(t.TempDir(), "none")}, 1, "", "file does not exist\nhint: the rules in force"},
		{[]string{"policy", "check"}, 2, "", "error: "},
		{[]string{"policy", "test", good}, 0, "0 failed", ""},
		{[]string{"policy", "test", bad}, 1, "", "error: "},
		{[]string{"policy", "test", wrong}, 1, `nobody copies \x1b[2J: want allow`, "1 of "},
	} {
		status, out, talk := tucdesk(t, c.args...)
		if status != c.status || !strings.Contains(out, c.out) || !strings.Contains(talk, c.talk) || c.out == "" && out != "" {
			t.Errorf("%q: status %d, printed %q, said %q; want %d, %q, %q", c.args, status, out, talk, c.status, c.out, c.talk)
		}
	}
}

func TestJSONIsOneValueOnStandardOutput(t *testing.T) {
	m := teamtest.NewTeam(t)
	m.Account(t)
	if err := m.Home.WriteJSON(account.LoginFile, account.SavedLogin{Token: "x", Expires: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	file := teamtest.Write(t, "policy.toml", string(m.Text), 0o644)
	for _, c := range []struct {
		args   []string
		status int
		key    string
	}{
		{[]string{"version", "--json"}, 0, "version"},
		{[]string{"whoami", "--json", "--state", m.Home.Dir}, 0, "email"},
		{[]string{"whoami", "--json", "--state", m.Home.Dir}, 0, "schemaVersion"},
		{[]string{"policy", "check", "--json", file}, 0, "schemaVersion"},
		{[]string{"policy", "check", "--json", file}, 0, "findings"},
		{[]string{"policy", "test", "--json", file}, 0, ""},
		{[]string{"status", "--json", "--state", m.Home.Dir}, cli.ExitTransport, "reachable"},
		{[]string{"status", "-d", "--json", "--state", m.Home.Dir}, cli.ExitTransport, "schemaVersion"},
	} {
		status, out, _ := tucdesk(t, c.args...)
		if status != c.status || !json.Valid([]byte(out)) || c.key != "" && !strings.Contains(out, `"`+c.key+`": `) {
			t.Errorf("%q: status %d, printed %q; want %d and %q", c.args, status, out, c.status, c.key)
		}
		if strings.Contains(out, "null") {
			t.Errorf("%q: null for an empty list in %s", c.args, out)
		}
	}
}

func TestWhoamiAndLogoutNeedNoServer(t *testing.T) {
	m := teamtest.NewTeam(t)
	m.Account(t)
	if status, _, talk := tucdesk(t, "whoami", "--state", m.Home.Dir); status != cli.ExitNotLoggedIn || !strings.Contains(talk, "hint: tucdesk login") {
		t.Errorf("logged out: status %d, said %q", status, talk)
	}
	if err := m.Home.WriteJSON(account.LoginFile, account.SavedLogin{Token: "x", Expires: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if status, out, talk := tucdesk(t, "whoami", "-q", "--state", m.Home.Dir); status != 0 || out != "ann@example.org\n" || talk != "" {
		t.Errorf("status %d, printed %q, said %q", status, out, talk)
	}
	for range 2 { // the second time there is nothing left to forget
		if status, out, _ := tucdesk(t, "logout", "--state", m.Home.Dir); status != 0 || out != "" {
			t.Errorf("logout: status %d, printed %q", status, out)
		}
	}
	soon := time.Now().Add(time.Hour)
	if err := m.Home.WriteJSON(account.LoginFile, account.SavedLogin{Token: "x", Expires: soon}); err != nil {
		t.Fatal(err)
	}
	if status, _, talk := tucdesk(t, "logout", "--state", m.Home.Dir); status != 0 || !strings.Contains(talk, "could not be told") || !strings.Contains(talk, "hint: to end it sooner") || !strings.Contains(talk, "with it until "+cli.When(soon)+";") || m.Home.Has(account.LoginFile) {
		t.Errorf("logout without a server: status %d, said %q", status, talk)
	}
	if status, _, _ := tucdesk(t, "ls", "--state", m.Home.Dir); status != cli.ExitNotLoggedIn {
		t.Errorf("ls after logout: status %d", status)
	}
	if status, _, _ := tucdesk(t, "ls", "--state", filepath.Join(t.TempDir(), "none")); status != cli.ExitNotLoggedIn {
		t.Errorf("ls in no team: status %d", status)
	}
}

func TestFolderOfAnotherTeamIsNotTaken(t *testing.T) {
	m, other := teamtest.NewTeam(t), teamtest.NewTeam(t)
	theirs := teamtest.Must(teamtest.Must(other.Home.Membership()).TeamString())
	before := teamtest.Must(os.ReadFile(m.Home.Path(account.TeamFile)))
	if status, _, talk := tucdesk(t, "login", theirs, "--state", m.Home.Dir); status != 1 || !strings.Contains(talk, "already_joined") {
		t.Errorf("status %d, said %q", status, talk)
	}
	if string(teamtest.Must(os.ReadFile(m.Home.Path(account.TeamFile)))) != string(before) {
		t.Error("team.json was changed")
	}
	if err := os.WriteFile(m.Home.Path(account.TeamFile), before[:20], 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, talk := tucdesk(t, "login", theirs, "--state", m.Home.Dir); status != 1 || !strings.Contains(talk, "damaged") {
		t.Errorf("over a damaged file: status %d, said %q", status, talk)
	}
	for _, bad := range []string{"tucdesk-team:", theirs[:len(theirs)-2], "tucdesk-setup:e30", "x"} {
		dir := filepath.Join(t.TempDir(), "new")
		if status, _, talk := tucdesk(t, "login", bad, "--state", dir); status == 0 || !strings.Contains(talk, "hint: wanted is a string that begins with tucdesk-team:") {
			t.Errorf("%.20q: status %d, said %q", bad, status, talk)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%.20q made a folder", bad)
		}
	}
}

func TestWrongCommandLinesOfOurVerbs(t *testing.T) {
	m := teamtest.NewTeam(t)
	m.Account(t)
	for _, args := range [][]string{
		{"exec", "web", "--"}, {"exec", "--env", "X", "web", "--", "true"}, {"token", "create", "--uses", "many"}, {"requests", "approve"}, {"help", "foo"}, {"completion", "basj"},
		{"operator", "add", "bob", "tucdesk-operator-pub:1"}, {"operator", "add", "bob@example.com", "tucdesk-operator-pub:1", "--role", "boss"},
		{"team", "init", "--email", "nomail", teamtest.Must(roster.SetupString(setupOf("https://127.0.0.1:1", key.Hash{1})))},
		{"team", "init", teamtest.Must(roster.SetupString(setupOf("https://127.0.0.1:1", key.Hash{1})))}, // no e-mail
	} {
		status, out, talk := tucdesk(t, append(slices.Clone(args), stateAt(args, m.Home.Dir)...)...)
		if status != cli.ExitUsage || out != "" || !strings.HasPrefix(talk, "error: ") {
			t.Errorf("%q: status %d, printed %q, said %q", args, status, out, talk)
		}
	}
}

// stateAt is empty for verbs whose last words belong to a remote command.
func stateAt(args []string, dir string) []string {
	if args[0] == "exec" || args[0] == "help" || args[0] == "completion" {
		return nil
	}
	return []string{"--state", dir + "-new"}
}

func setupOf(url string, pin key.Hash) roster.SetupInfo {
	return roster.SetupInfo{Name: "main", URL: url, Code: make(wire.Bytes, 32), Keys: wire.ServerKeys{
		Access: teamtest.Generate[key.Access]().Public(), Grant: teamtest.Generate[key.Grant]().Public(), Audit: teamtest.Generate[key.Audit]().Public(), TLS: pin,
	}}
}

// serve runs a server of ours on loopback and returns what a setup string needs.
func serve(t *testing.T, setup http.HandlerFunc) roster.SetupInfo {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc(wire.PathHealth, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) })
	mux.HandleFunc(wire.PathSetup, setup)
	s := httptest.NewTLSServer(mux)
	t.Cleanup(s.Close)
	return setupOf(s.URL, sha256.Sum256(s.Certificate().RawSubjectPublicKeyInfo))
}

func TestFailedFoundingLeavesKeysOnlyWhereTheTeamMayExist(t *testing.T) {
	pass := teamtest.Write(t, "pass", "correct horse\n", 0o600)
	refuse := func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"code":"not_found","detail":"no"}`))
	}
	cut := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	for name, c := range map[string]struct {
		setup roster.SetupInfo
		keep  bool
	}{
		"nobody listens":           {setupOf("https://127.0.0.1:1", key.Hash{1}), false},
		"the server refuses":       {serve(t, refuse), false},
		"the answer does not come": {serve(t, cut), true},
	} {
		dir := filepath.Join(t.TempDir(), "state")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		teamtest.LockedOwner(t, account.Home{Dir: dir}) // as tucdesk owner create leaves it
		status, out, talk := tucdesk(t, "team", "init", teamtest.Must(roster.SetupString(c.setup)), "--email", "ann@example.org", "--passphrase-file", pass, "--state", dir)
		if status == 0 {
			t.Errorf("%s: status 0", name)
		}
		want := []string{account.EnrollerKeyFile, account.OperatorKeyFile, account.OwnerKeyFile, account.OwnerNotesFile, account.TeamFile}
		if !c.keep {
			want = []string{account.OwnerKeyFile, account.OwnerNotesFile} // it was here before
		}
		if got := teamtest.Folder(t, dir); !slices.Equal(got, want) {
			t.Errorf("%s: left %q, want %q", name, got, want)
		}
		if shown := strings.Contains(talk, "tucdesk-recovery:"); shown != c.keep || c.keep != strings.Contains(talk, "hint: tucdesk login tells") {
			t.Errorf("%s: printed %q, said %q", name, out, talk)
		}
	}
}

func TestFoundingOverATeamIsRefused(t *testing.T) {
	m := teamtest.NewTeam(t)
	before := teamtest.Folder(t, m.Home.Dir)
	status, _, talk := tucdesk(t, "team", "init", "tucdesk-setup:x", "--state", m.Home.Dir)
	if status != 1 || !strings.Contains(talk, "already_joined") || !slices.Equal(teamtest.Folder(t, m.Home.Dir), before) {
		t.Errorf("status %d, said %q", status, talk)
	}
}

// Whoever has no team hears that, and nothing before it that never began.
func TestWithoutATeamThatIsWhatIsSaid(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	for _, args := range [][]string{{"attach", "--state", none, "build"}, {"sessions", "kill", "--state", none, "build"}, {"forward", "--state", none, "web", "0:localhost:80"}} {
		if status, out, talk := tucdesk(t, args...); status != cli.ExitNotLoggedIn || out != "" || !strings.HasPrefix(talk, "error: not_logged_in: ") {
			t.Errorf("%q: status %d, printed %q, said %q", args, status, out, talk)
		}
	}
}

// Ctrl-C while the server is told ends with its own status, and the login is gone all the
// same.
func TestLogoutThatIsBrokenOffIsALogout(t *testing.T) {
	m := teamtest.NewTeam(t)
	m.Account(t)
	if err := m.Home.WriteJSON(account.LoginFile, account.SavedLogin{Token: "x", Expires: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var talk bytes.Buffer
	status := cli.Run(ctx, &cli.IO{In: os.Stdin, Out: &talk, Err: &talk}, Command(), []string{"logout", "--state", m.Home.Dir})
	if status != cli.ExitInterrupted || !strings.Contains(talk.String(), "logged out here, but the server could not be told: interrupted\nwarning: ") || m.Home.Has(account.LoginFile) {
		t.Errorf("status %d, said %q", status, talk.String())
	}
}
