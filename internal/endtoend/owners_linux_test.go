package endtoend

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/operator/vault"
)

// TestOwnersScripts are owners on machines of their own, a state folder each,
// against a server without a team. Their keys come from files in the form of
// recovery keys, which no passphrase makes slow.
func TestOwnersScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "owners"),
		Setup: func(env *testscript.Env) error {
			w := emptyWorld(env.T().(testing.TB))
			env.Setenv("SETUP", w.setup)
			env.Setenv("SERVER", "--state="+w.path("server"))
			env.Setenv("CONFIG", "--config="+w.path("server.toml"))
			env.Setenv("ELSEWHERE", emptyWorld(env.T().(testing.TB)).setup)
			env.Setenv("PATH", filepath.Dir(program(t, "tucdesk"))+string(os.PathListSeparator)+"/usr/bin:/bin")
			for _, who := range []string{"ann", "bob", "carol", "eve"} {
				if err := newOwner(env, who); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": scriptStatus, "value": scriptValue, "flip": scriptFlip, "code": scriptCode, "recoverycode": scriptRecoveryCode,
		},
	})
}

// emptyWorld is a server that nobody has founded a team on.
func emptyWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), addr: freeAddr(t), relay: freeAddr(t)}
	write(t, w.path("server.toml"), w.config(plan{}))
	w.startServer("--url", "https://"+w.addr)
	eventually(t, "the server prints a set-up string", func() bool { return strings.HasSuffix(w.server.out.String(), "\n") })
	w.setup = strings.TrimSpace(w.server.out.String())
	return w
}

// newOwner gives a person an owner key, in $WORK/WHO.key: $WHO is its public half,
// $WHO_CODE its short code. $AT_WHO is the person's machine, $AS_WHO the key.
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

// scriptValue is "value NAME BEGINNING": the first printed word that begins so.
func scriptValue(ts *testscript.TestScript, _ bool, args []string) {
	for _, word := range strings.Fields(ts.ReadFile("stdout") + " " + ts.ReadFile("stderr")) {
		if word = strings.Trim(word, `",`); strings.HasPrefix(word, args[1]) {
			ts.Setenv(args[0], word)
			return
		}
	}
	ts.Fatalf("no word begins with %q", args[1])
}

// scriptFlip is "flip FILE TEXT": changes the byte behind the last TEXT.
func scriptFlip(ts *testscript.TestScript, _ bool, args []string) {
	data := []byte(ts.ReadFile(args[0]))
	i := strings.LastIndex(string(data), args[1])
	if i < 0 {
		ts.Fatalf("%q is not in %s", args[1], args[0])
	}
	if i += len(args[1]); data[i] == '0' {
		data[i] = '1'
	} else {
		data[i] = '0'
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o600))
}

// scriptCode is "code NAME KEY": the short code of an operator's public key.
func scriptCode(ts *testscript.TestScript, _ bool, args []string) {
	k, err := key.ParsePublic[key.Operator](args[1])
	ts.Check(err)
	ts.Setenv(args[0], k.ID().ShortCode())
}

// scriptRecoveryCode puts the code of the listed recovery key into $RECOVERY_CODE.
func scriptRecoveryCode(ts *testscript.TestScript, _ bool, _ []string) {
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		if code, rest, _ := strings.Cut(line, " "); strings.HasPrefix(strings.TrimSpace(rest), "recovery key ") {
			ts.Setenv("RECOVERY_CODE", code)
			return
		}
	}
	ts.Fatalf("no recovery key among the owners")
}

// What is typed at once after the question is part of the secret already.
func TestPassphraseIsNeverShown(t *testing.T) {
	t.Parallel()
	w := &world{t: t, dir: t.TempDir()}
	s := w.person("ann").at(80, 24, "xterm-256color", "owner", "create")
	s.shows(0, `New passphrase .*: `)
	s.types("correct horse\r")
	s.shows(0, `Once more: `)
	s.types("correct horse\r")
	s.shows(0, `short code  \S+\r\n`)
	if code := s.status(); code != 0 {
		t.Errorf("the client exits %d", code)
	}
	<-s.closed // all that it said is there
	if text := s.seen.String(); strings.Contains(text, "correct") || strings.Contains(text, "horse") {
		t.Errorf("the terminal shows %q", text)
	}
	if !exists(w.path("people", "ann", "tucdesk", "owner.age")) {
		t.Error("there is no owner key")
	}
}
