package remote

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

// Every letter of OpenSSH's that asks for what is not here says why, and what to type
// instead; those with a value take it, so that HOST is not read as one.
func TestLettersThatAreNotHereSayWhy(t *testing.T) {
	run := func(args ...string) (int, string) {
		var talk bytes.Buffer
		status := cli.Run(t.Context(), &cli.IO{Out: &talk, Err: &talk}, &cli.Command{Use: "tucdesk", Sub: []*cli.Command{SSHCommand()}}, append([]string{"ssh", "--state", t.TempDir()}, args...))
		return status, talk.String()
	}
	for _, f := range foreigners {
		args, want := []string{"-" + f.letter, "web"}, "error: bad_argument: -"+f.letter+": "
		if f.takes {
			args, want = []string{"-" + f.letter, "a\x1bb", "web"}, "error: bad_argument: -"+f.letter+` a\x1bb: `
		}
		hint := strings.ReplaceAll(f.hint, "HOST", "web")
		status, said := run(args...)
		if f.why == "" && status != cli.ExitNotLoggedIn {
			t.Errorf("%q is not taken: status %d, said %q", args, status, said)
		}
		if f.why != "" && (status != cli.ExitUsage || !strings.HasPrefix(said, want+f.why+"\n") || !strings.HasSuffix(said, "hint: "+hint+"\n")) {
			t.Errorf("%q: status %d, said %q", args, status, said)
		}
	}
	for line, want := range map[string]string{
		"-p 2222 web":   "hint: an sshd that listens there at that port: tucdesk ssh -J web -p 2222 localhost\n",
		"-Xp 2222 web":  "error: bad_argument: -X: ",
		"web -s sftp":   "error: bad_argument: -s: ",
		"-i key web":    "hint: who you are: tucdesk whoami",
		"-o SendEnv= x": "hint: to enter a team",
		"--x11=false x": "hint: to enter a team",
	} {
		if _, said := run(strings.Fields(line)...); !strings.Contains(said, want) {
			t.Errorf("%s: said %q, want %q", line, said, want)
		}
	}
}

func TestLettersThatAreNotHereAreOpenSSHsBehindAJump(t *testing.T) {
	o := &sshOptions{jump: "web", port: "2222", foreign: []given{{foreigners[0], "true"}, {foreign{letter: "F", takes: true}, "file"}}}
	if err := o.settle(); err != nil {
		t.Fatal(err)
	}
	if got := o.letters(); !slices.Equal(got, []string{"-s", "-F", "file", "-p", "2222"}) {
		t.Errorf("ssh gets %q", got)
	}
	if err := o.settleOurs(); err == nil { // of HOST itself, where it is the team's
		t.Error("they are passed over where no jump is needed")
	}
	if err := (&sshOptions{jump: "web", identity: []string{"key"}}).settleOurs(); err == nil {
		t.Error("-i is passed over where no jump is needed")
	}
}

// Letters that mean nothing in a session of ours mean something to the ssh behind a jump:
// -a and -x take back what its configuration would lend to HOST.
func TestLettersOfNoUseHereReachOpenSSHBehindAJump(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows runs no script as ssh")
	}
	bin := t.TempDir()
	script := "#!/bin/sh\nprintf '%s\\n' \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "ssh"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	o := &sshOptions{}
	var f flag.FlagSet
	o.flags(&f)
	if err := f.Parse([]string{"-a", "-x", "-c", "aes256-gcm@openssh.com", "-S", "none", "-4=false"}); err != nil {
		t.Fatal(err)
	}
	o.jump = "bastion"
	var out bytes.Buffer
	if err := o.throughJump(t.Context(), &cli.IO{Out: &out, Err: io.Discard}, "host", ""); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.Contains(got, "\n-a\n-x\n-c\naes256-gcm@openssh.com\n-S\nnone\n--\nhost\n") {
		t.Errorf("ssh gets %q", got)
	}
}

// The person reads which variable, and nothing of it but its name.
func TestDeniedVariablesAreNamed(t *testing.T) {
	rules, err := policy.Parse(policy.Default())
	if err != nil {
		t.Fatal(err)
	}
	env := []wire.EnvVar{{Name: "LC_ALL", Value: wire.Bytes("C")}, {Name: "FOO", Value: wire.Bytes("secret")}, {Name: "B\x1bR"}}
	denied := refusal.New(refusal.EnvNotAllowed, "no")
	if err := nameVariables(denied, rules, env); refusal.Of(err) != refusal.EnvNotAllowed || err.Error() != `env_not_allowed: no: "FOO", "B\x1bR"` {
		t.Errorf("said %v", err)
	}
	for _, err := range []error{nil, errors.New("x"), refusal.New(refusal.PolicyDenied, "no")} {
		if got := nameVariables(err, rules, env); got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
	if got := nameVariables(denied, rules, env[:1]); got != error(denied) { // the machine's own reasons
		t.Errorf("became %v", got)
	}
}

// What fails through OpenSSH has the machine's name in its hints, as it has without.
func TestHintsThroughOpenSSHNameTheMachine(t *testing.T) {
	var talk bytes.Buffer
	status := (&proxy{host: "web"}).report(&talk, refusal.New(refusal.PolicyDenied, "no"))
	if status != cli.ExitDenied || !strings.Contains(talk.String(), "tucdesk policy explain web shell") {
		t.Errorf("status %d, said %q", status, talk.String())
	}
}

func TestSendEnvTakesWhatThePolicyAllows(t *testing.T) {
	o := &sshOptions{}
	for _, text := range []string{"GIT_* LC_?? [A-Z]", "GIT_TRACE NO_*", "-GIT_TR*  -NO*"} {
		if err := o.setOption("SendEnv=" + text); err != nil {
			t.Fatal(err)
		}
	}
	environ := []string{"GIT_PROTOCOL=version=2", "GIT_SECRET=x", "LC_ALL=C", "LC_AB=d", "LC_A=e", "NO_COLOR=1", "A=1", "[A-Z]=2", "GIT_DIR="}
	allowed := func(name string) bool { return name != "GIT_SECRET" }
	got := o.variables(environ, allowed, []wire.EnvVar{{Name: "LC_AB", Value: wire.Bytes("typed")}})
	var text []string
	for _, v := range got {
		text = append(text, v.Name+"="+string(v.Value))
	}
	if want := []string{"LC_AB=typed", "GIT_PROTOCOL=version=2", "[A-Z]=2", "GIT_DIR="}; !slices.Equal(text, want) {
		t.Errorf("sent %q, want %q", text, want)
	}
}
