package operator_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/operator"
	"github.com/tucdesk/tucdesk/operator/vault"
	"github.com/tucdesk/tucdesk/rendezvous"
)

// TestMain makes the test binary the client's program when a script starts it.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"tucdesk": func() { os.Exit(operator.Main(context.Background(), os.Args[1:])) },
	})
}

// TestOwnersScripts are owners on machines of their own: processes of the real
// program, one state folder each, against a server on loopback. Their keys come
// from files in the form of recovery keys, which no passphrase makes slow.
func TestOwnersScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			setup, err := startServer(t, env)
			if err != nil {
				return err
			}
			env.Setenv("SETUP", setup)
			for _, who := range []string{"ann", "bob", "carol", "eve"} {
				if err := newOwner(env, who); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"status": status, "value": value, "flip": flip, "code": code, "recoverycode": recoveryCode},
	})
}

// startServer runs a server for one script.
func startServer(t *testing.T, env *testscript.Env) (setup string, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(t.TempDir(), "server")
	cfg := rendezvous.Config{Name: "test", URL: "https://" + listener.Addr().String(), State: dir, Listener: listener}
	if err := rendezvous.Create(dir, cfg); err != nil {
		return "", errors.Join(err, listener.Close())
	}
	server, err := rendezvous.Open(t.Context(), cfg)
	if err != nil {
		return "", errors.Join(err, listener.Close())
	}
	if setup, err = server.SetupString(t.Context()); err != nil {
		return "", errors.Join(err, server.Close())
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	env.Defer(func() {
		stop()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Error("the server does not stop")
		}
	})
	return setup, nil
}

// newOwner gives a person an owner key, in $WORK/WHO.key, and its public half and
// code in $WHO and $WHO_CODE.
func newOwner(env *testscript.Env, who string) error {
	owner, err := key.Generate[key.Owner]()
	if err != nil {
		return err
	}
	text, err := vault.Recovery(owner)
	if err != nil {
		return err
	}
	name := strings.ToUpper(who)
	env.Setenv(name, owner.Public().String())
	env.Setenv(name+"_CODE", owner.ID().ShortCode())
	env.Setenv("AT_"+name, "--state="+filepath.Join(env.WorkDir, who))
	env.Setenv("AS_"+name, "--recovery-key-file="+filepath.Join(env.WorkDir, who+".key"))
	return os.WriteFile(filepath.Join(env.WorkDir, who+".key"), append(text, '\n'), 0o600)
}

// status is "status N PROGRAM ARGS...": the program must exit with N.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("%q exits %d, want %d\n%s", args[1:], got, want, ts.ReadFile("stderr"))
	}
}

// value is "value NAME PATTERN": the first word of the last output that begins
// with PATTERN goes into $NAME.
func value(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: value NAME BEGINNING")
	}
	for _, word := range strings.Fields(ts.ReadFile("stdout") + " " + ts.ReadFile("stderr")) {
		if word = strings.Trim(word, `",`); strings.HasPrefix(word, args[1]) {
			ts.Setenv(args[0], word)
			return
		}
	}
	ts.Fatalf("no word begins with %q", args[1])
}

// flip is "flip FILE PATTERN": changes the byte behind the last PATTERN.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: flip FILE PATTERN")
	}
	text := []byte(ts.ReadFile(args[0]))
	i := strings.LastIndex(string(text), args[1])
	if i < 0 {
		ts.Fatalf("%q is not in %s", args[1], args[0])
	}
	if text[i+len(args[1])]++; text[i+len(args[1])] > 'z' {
		text[i+len(args[1])] = 'a'
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), text, 0o600))
}

// code is "code NAME KEY": the short code of an operator's public key.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: code NAME KEY")
	}
	k, err := key.ParsePublic[key.Operator](args[1])
	ts.Check(err)
	ts.Setenv(args[0], k.ID().ShortCode())
}

// recoveryCode puts the code of the owner in the output before who is none of our
// people into $RECOVERY_CODE.
func recoveryCode(ts *testscript.TestScript, _ bool, _ []string) {
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		words := strings.Fields(line)
		if len(words) == 2 && strings.HasPrefix(words[1], "tucdesk-owner-pub:") &&
			words[1] != ts.Getenv("ANN") && words[1] != ts.Getenv("BOB") && words[1] != ts.Getenv("CAROL") {
			ts.Setenv("RECOVERY_CODE", words[0])
			return
		}
	}
	ts.Fatalf("no recovery key among the owners")
}
