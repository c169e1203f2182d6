package repotest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// units returns the units for systemd by their names.
func units(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, "docs/systemd/*.service"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no units: %v", err)
	}
	all := map[string]string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(path)] = string(text)
	}
	return all
}

var execStart = regexp.MustCompile(`(?m)^ExecStart=(\S+)/(\S+)( .*)?$`)

// A unit starts a program that there is.
func TestUnitsStartOurPrograms(t *testing.T) {
	for name, text := range units(t) {
		m := execStart.FindAllStringSubmatch(text, -1)
		if len(m) != 1 || m[0][2]+".service" != name {
			t.Errorf("%s starts %v", name, m)
			continue
		}
		if _, err := os.Stat(filepath.Join(root, "cmd", m[0][2], "main.go")); err != nil {
			t.Errorf("%s starts what is not built here: %v", name, err)
		}
	}
}

// What people copy out of the manual is the unit that was looked at here.
func TestTheManualShowsTheUnits(t *testing.T) {
	manual, err := os.ReadFile(filepath.Join(root, "docs/OPERATIONS.md"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range units(t) {
		block := "`/etc/systemd/system/" + name + "`"
		_, after, found := strings.Cut(string(manual), block)
		if !found {
			t.Errorf("the manual does not say where %s belongs", name)
			continue
		}
		var shown strings.Builder
		for line := range strings.Lines(after[strings.Index(after, "\n    "):]) {
			code, indented := strings.CutPrefix(line, "    ")
			if !indented && strings.TrimSpace(line) != "" {
				break
			}
			shown.WriteString(code)
		}
		if got := strings.Trim(shown.String(), "\n"); got != strings.Trim(text, "\n") {
			t.Errorf("the manual shows another %s:\n%s", name, got)
		}
	}
}

// The agent's unit leaves what operators left on purpose, and only that: systemd ends
// the agent alone (KillMode), which ends its sessions in their groups (Delegate).
func TestTheAgentsUnitLeavesWhatWasMeantToStay(t *testing.T) {
	unit := units(t)["tucdesk-agent.service"]
	for _, line := range []string{"KillMode=process", "Delegate=yes", "DelegateSubgroup=agent", "TasksMax=infinity", "Restart=always"} {
		if !strings.Contains(unit, "\n"+line+"\n") {
			t.Errorf("no %s in it", line)
		}
	}
}

// The server and its relay face the internet: who breaks in through them must not be root
// (attack: everything on the server's machine, by one mistake in a parser).
func TestTheServersUnitGivesItOneCapabilityAndOneFolder(t *testing.T) {
	unit := units(t)["tucdesk-server.service"]
	for _, line := range []string{
		"User=tucdesk-server", "StateDirectory=tucdesk-server", "StateDirectoryMode=0700", "UMask=0077",
		"AmbientCapabilities=CAP_NET_BIND_SERVICE", "CapabilityBoundingSet=CAP_NET_BIND_SERVICE", "NoNewPrivileges=yes",
		"ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes", "LimitCORE=0",
		"RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK",
	} {
		if !strings.Contains(unit, "\n"+line+"\n") {
			t.Errorf("no %s in it", line)
		}
	}
}

// analyzer is systemd's own judge of units.
func analyzer(t *testing.T) string {
	t.Helper()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("install systemd-analyze (Debian: systemd) to have the units checked")
	}
	return analyze
}

// mostExposed is what systemd may say of the server's unit, of 100; our choice, a little
// above what it says now. A service without any of it has 96.
const mostExposed = "45"

// One line fewer in the unit and the rest still reads well: systemd counts.
func TestSystemdFindsTheServerConfined(t *testing.T) {
	analyze := analyzer(t)
	judge := func(text string) ([]byte, error) {
		path := filepath.Join(t.TempDir(), "tucdesk-server.service")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return exec.Command(analyze, "security", "--offline=true", "--no-pager", "--threshold="+mostExposed, path).CombinedOutput()
	}
	unit := units(t)["tucdesk-server.service"]
	if out, err := judge(unit); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
	if _, err := judge(strings.Replace(unit, "\nCapabilityBoundingSet=", "\n#", 1)); err == nil {
		t.Error("without its bounds the unit passes as well: this test proves nothing")
	}
}

// unknownSubgroup is what a systemd before 254 says, which starts the unit without it:
// the agent then says that sessions have no limits.
var unknownSubgroup = regexp.MustCompile(`(?m)^.*Unknown key.* 'DelegateSubgroup' in section.*, ignoring\.\n?`)

// systemd ignores a line that it cannot read and starts the unit without it, so that
// nothing would be noticed until programs die that were meant to stay.
func TestSystemdTakesEveryLineOfTheUnits(t *testing.T) {
	analyze := analyzer(t)
	verify := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		self, err := os.Executable() // any program: ours are not installed here
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(execStart.ReplaceAllString(text, "ExecStart="+self+"$3")), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(analyze, "verify", "--man=no", path).CombinedOutput()
		said := unknownSubgroup.ReplaceAllString(string(out), "")
		if err != nil {
			return err.Error() + ": " + said
		}
		return said
	}
	for name, text := range units(t) {
		if said := verify(name, text); said != "" {
			t.Errorf("of %s: %s", name, said)
		}
		if strings.Contains(text, "KillMode") && verify(name, strings.Replace(text, "KillMode=process", "KillMode=proces", 1)) == "" {
			t.Errorf("a line of %s that cannot be read is not noticed: this test proves nothing", name)
		}
	}
}
