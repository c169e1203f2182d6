package endtoend

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// The three machines of the main job: a server with its relay, a machine with an
// agent, a person with a client.

func TestThreeMachines(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withPassphrase)
	web := w.agent("web", "web")
	t.Run("login", func(t *testing.T) {
		a := w.ann.run("login").is(t, 0)
		if want := fmt.Sprintf("logged in to https://%s as ann@acme.example, role admin\n", w.addr); a.out != want {
			t.Errorf("login prints %q, want %q", a.out, want)
		}
	})
	t.Run("10 MiB through standard input and output", func(t *testing.T) {
		want := noise(10 << 20)
		a := w.ann.feed(in(want), "exec", "web", "--", "cat").is(t, 0)
		if sha256.Sum256([]byte(a.out)) != sha256.Sum256(want) {
			t.Errorf("%d bytes came back from cat, of %d, and they differ", len(a.out), len(want))
		}
		if a.err != "" {
			t.Errorf("and it said %q", a.err)
		}
	})
	t.Run("output after the input has ended", func(t *testing.T) {
		want := noise(1 << 20)
		sum := sha256.Sum256(want)
		a := w.ann.feed(in(want), "exec", "web", "--", "sha256sum").is(t, 0)
		if !strings.HasPrefix(a.out, fmt.Sprintf("%x ", sum)) {
			t.Errorf("the machine saw %q, want %x", a.out, sum)
		}
	})
	t.Run("argv byte by byte", func(t *testing.T) {
		argv := []string{"", "two words", "a\nb", "\t", "grün", "日本", "\xff\xfe\x80", "\x1b[31m", "-n", "--", strings.Repeat("x", 20_000), ""}
		a := w.ann.run(append([]string{"exec", "web", "--", "printf", "<%s>"}, argv...)...).is(t, 0)
		if want := "<" + strings.Join(argv, "><") + ">"; a.out != want {
			t.Errorf("the machine ran %q, want %q", a.out, want)
		}
	})
	t.Run("the owner key and its passphrase", func(t *testing.T) {
		wrong := w.path("wrong-passphrase")
		write(t, wrong, "not the passphrase\n")
		w.ann.run("team", "renew", "--passphrase-file", wrong).is(t, 1)
		a := w.ann.run("team", "renew", "--passphrase-file", w.path("ann-passphrase")).is(t, 0)
		if !strings.Contains(a.out, "version 2") {
			t.Errorf("renew prints %q", a.out)
		}
		web.proc.says("roster applied", 1)
	})
	t.Run("agent stops and starts", func(t *testing.T) {
		web.proc.stop()
		w.ann.run("exec", "web", "--", "true").refused(t, 251, "offline")
		web.start()
		web.online()
		w.ann.run("exec", "web", "--", "echo", "back").is(t, 0)
	})
}

func TestThreeMachinesScripts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web := w.agent("web", "web")
	w.agent("vault", "vault")
	w.agent("prod", "prod")
	w.join("db", "web")
	// One person each: the rate limit is per key.
	who := map[string]*person{"exec": w.ann, "refusals": w.enter("bob", "admin"), "ways": w.enter("cyd", "operator")}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			p := who[strings.TrimPrefix(filepath.Base(env.WorkDir), "script-")]
			if p == nil {
				return fmt.Errorf("nobody runs the script in %q", env.WorkDir)
			}
			home := filepath.Join(env.WorkDir, "home")
			env.Setenv("XDG_STATE_HOME", home)
			env.Setenv("WEB", web.dir)
			env.Setenv("PATH", programs.Dir()+string(os.PathListSeparator)+"/usr/bin:/bin")
			return copyState(filepath.Dir(p.state("x")), filepath.Join(home, "tucdesk"))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": scriptStatus, "json": scriptJSON, "firstrequest": scriptFirstRequest,
		},
	})
}

func copyState(from, to string) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, e.Name()), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// scriptStatus is "status N PROGRAM ARGS...": the program must exit with N.
func scriptStatus(ts *testscript.TestScript, neg bool, args []string) {
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

// scriptJSON is "json PROGRAM ARGS...": it exits 0 and prints one JSON value.
func scriptJSON(ts *testscript.TestScript, neg bool, args []string) {
	scriptStatus(ts, neg, append([]string{"0"}, args...))
	if text := ts.ReadFile("stdout"); !json.Valid([]byte(text)) {
		ts.Fatalf("%q does not print JSON:\n%s", args, text)
	}
}

// scriptFirstRequest puts the newest request of the JSON printed before into
// $REQUEST.
func scriptFirstRequest(ts *testscript.TestScript, _ bool, _ []string) {
	var list []struct{ Request string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &list))
	if len(list) == 0 {
		ts.Fatalf("no requests")
	}
	ts.Setenv("REQUEST", list[0].Request)
}
