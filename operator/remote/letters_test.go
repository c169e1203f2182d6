package remote

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/tucdesk/tucdesk/internal/cli"
	"github.com/tucdesk/tucdesk/internal/wire"
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
		if status, said := run(args...); status != cli.ExitUsage || !strings.HasPrefix(said, want+f.why+"\n") || !strings.HasSuffix(said, "hint: "+f.hint+"\n") {
			t.Errorf("%q: status %d, said %q", args, status, said)
		}
	}
	for letter := range meaninglessValues {
		if status, said := run("-"+letter, "x", "web"); status != cli.ExitNotLoggedIn {
			t.Errorf("-%s: status %d, said %q", letter, status, said)
		}
	}
	for line, want := range map[string]string{
		"-p 2222 web":   "hint: an sshd that listens there at that port: tucdesk ssh -J HOST -p 2222 localhost\n",
		"-Xp 2222 web":  "error: bad_argument: -X: ",
		"web -s sftp":   "error: bad_argument: -s: ",
		"-i key web":    "hint: who you are: tucdesk whoami",
		"-o SendEnv= x": "hint: to enter a team",
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
