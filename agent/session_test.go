//go:build linux

package agent

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/agent/process"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// live sets a team with a relay and an agent up.
func liveTeam(t testing.TB, tags ...string) (*team, *Agent) {
	t.Helper()
	k := newTeam(t, openPolicy)
	k.startRelay()
	return k, k.agent(tags...)
}

func argv(args ...string) func(*wire.Request) {
	return func(r *wire.Request) {
		r.Params.Argv = nil
		for _, s := range args {
			r.Params.Argv = append(r.Params.Argv, wire.Bytes(s))
		}
	}
}

func (q *ask) argv() (list [][]byte) {
	for _, b := range q.request.Params.Argv {
		list = append(list, b)
	}
	return list
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// exec runs the request's program and returns everything it said.
func (q *ask) exec(stdin string) (stdout, stderr string, exit session.Exit, err error) {
	t := q.team.t
	t.Helper()
	ch := must(q.dial().OpenSession(within(t)))
	if err := ch.Exec(within(t), q.argv()); err != nil {
		return "", "", exit, err
	}
	go func() {
		_, _ = io.WriteString(ch.Stdin(), stdin)
		_ = ch.Stdin().Close()
	}()
	errText := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(ch.Stderr())
		errText <- string(b)
	}()
	out, _ := io.ReadAll(ch.Stdout())
	exit, err = ch.Wait()
	return string(out), <-errText, exit, err
}

func TestExecRunsExactlyWhatWasSigned(t *testing.T) {
	t.Parallel()
	k, a := liveTeam(t)
	args := []string{"printf", "%s|", "a b", "", "'\"$(id)`", "\xff", "line\nbreak", "*"}
	out, _, exit, err := k.askFor(a, "ann", argv(args...)).exec("")
	if err != nil || out != strings.Join(args[2:], "|")+"|" || exit != (session.Exit{}) {
		t.Errorf("%q, %+v, %v", out, exit, err)
	}
	out, errText, exit, err := k.askFor(a, "ann", argv("sh", "-c", "cat; echo problem >&2; exit 7")).exec("through stdin")
	if err != nil || out != "through stdin" || errText != "problem\n" || exit.Status != 7 {
		t.Errorf("%q, %q, %+v, %v", out, errText, exit, err)
	}
	_, _, exit, err = k.askFor(a, "ann", argv("sh", "-c", "kill -TERM $$")).exec("")
	if err != nil || exit.Signal != "TERM" {
		t.Errorf("%+v, %v", exit, err)
	}
	out, _, _, err = k.askFor(a, "ann", func(r *wire.Request) {
		argv("sh", "-c", "pwd; echo $LC_ALL; env | sort | cut -d= -f1 | tr '\\n' ' '")(r)
		r.Params.Cwd = wire.Bytes("/usr")
		r.Params.Env = []wire.EnvVar{{Name: "LC_ALL", Value: wire.Bytes("C")}}
	}).exec("")
	names := []string{"PWD"} // which the shell adds
	for _, v := range must(process.Environment(must(process.LookUp("")), "", []process.Variable{{Name: "LC_ALL"}})) {
		name, _, _ := strings.Cut(v, "=")
		names = append(names, name)
	}
	slices.Sort(names)
	if want := "/usr\nC\n" + strings.Join(names, " ") + " "; err != nil || strings.ReplaceAll(strings.ReplaceAll(out, " _", ""), " OLDPWD", "") != want {
		t.Errorf("%q, %v", out, err)
	}
}

func TestChannelCannotAskForMoreThanWasSigned(t *testing.T) {
	t.Parallel()
	k, a := liveTeam(t)
	for name, try := range map[string]func(*session.Channel) error{
		"other argument": func(c *session.Channel) error { return c.Exec(within(t), [][]byte{[]byte("echo"), []byte("b")}) },
		"shell":          func(c *session.Channel) error { return c.Shell(within(t)) },
		"terminal": func(c *session.Channel) error {
			_ = c.RequestPTY(session.PTY{Term: "xterm", Size: session.Size{Columns: 80, Rows: 24}})
			return c.Exec(within(t), [][]byte{[]byte("echo"), []byte("a")})
		},
		"environment": func(c *session.Channel) error {
			_ = c.Setenv("LANG", "C")
			return c.Exec(within(t), [][]byte{[]byte("echo"), []byte("a")})
		},
	} {
		ch := must(k.askFor(a, "ann", argv("echo", "a")).dial().OpenSession(within(t)))
		err := try(ch)
		if code := refusal.Of(err); code != refusal.BadArgument && code != refusal.EnvNotAllowed {
			t.Errorf("%s: %v", name, err)
		}
	}
	conn := k.askFor(a, "ann", argv("cat")).dial()
	first := must(conn.OpenSession(within(t)))
	if err := first.Exec(within(t), [][]byte{[]byte("cat")}); err != nil {
		t.Fatal(err)
	}
	second := must(conn.OpenSession(within(t)))
	if err := second.Exec(within(t), [][]byte{[]byte("cat")}); refusal.Of(err) != refusal.TooMany {
		t.Errorf("a second program: %v", err)
	}
}

// shell opens a shell and returns its channel.
func (q *ask) shell() *session.Channel {
	t := q.team.t
	t.Helper()
	ch := must(q.dial().OpenSession(within(t)))
	if err := ch.RequestPTY(session.PTY{Term: "xterm", Size: session.Size{Columns: 132, Rows: 43}}); err != nil {
		t.Fatal(err)
	}
	if err := ch.Shell(within(t)); err != nil {
		t.Fatal(err)
	}
	return ch
}

func shellRequest(r *wire.Request) { r.Action, r.Params.Argv, r.Params.TTY = wire.Shell, nil, true }

func TestCommandLineIsReadByTheUsersShell(t *testing.T) {
	t.Parallel()
	k, a := liveTeam(t)
	ch := must(k.askFor(a, "ann", func(r *wire.Request) {
		r.Action, r.Params.Argv, r.Params.TTY = wire.Shell, []wire.Bytes{[]byte("test -t 0 || echo pipes; exit $((3+4))")}, false
	}).dial().OpenSession(within(t)))
	if err := ch.Shell(within(t)); err != nil {
		t.Fatal(err)
	}
	_ = ch.Stdin().Close()
	out, _ := io.ReadAll(ch.Stdout())
	if exit, err := ch.Wait(); string(out) != "pipes\n" || exit.Status != 7 || err != nil {
		t.Errorf("said %q, ended %v, %v", out, exit, err)
	}
}

func TestShellIsALoginShellOnItsOwnTerminal(t *testing.T) {
	t.Parallel()
	k, a := liveTeam(t)
	ch := k.askFor(a, "ann", shellRequest).shell()
	_, _ = io.WriteString(ch.Stdin(), "PS1=; stty -echo; echo; echo \"<$0 $TERM $(stty size) $PWD>\"; exit 5\n")
	out := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(ch.Stdout())
		out <- string(b)
	}()
	exit, err := ch.Wait()
	home := must(process.LookUp("")).Home
	if text := <-out; err != nil || exit.Status != 5 || !strings.Contains(text, "xterm 43 132 "+home+">") || !strings.Contains(text, "<-") {
		t.Errorf("%q, %+v, %v", text, exit, err)
	}
}

func TestProgramDoesNotInheritTheStartersMaskOrNohup(t *testing.T) {
	k, a := liveTeam(t)
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	signal.Ignore(syscall.SIGHUP)
	defer signal.Reset(syscall.SIGHUP)
	ch := must(k.askFor(a, "ann", func(r *wire.Request) {
		r.Params.Argv = []wire.Bytes{[]byte("sh"), []byte("-c"), []byte("umask; kill -HUP $$; echo survived")}
	}).dial().OpenSession(within(t)))
	if err := ch.Exec(within(t), [][]byte{[]byte("sh"), []byte("-c"), []byte("umask; kill -HUP $$; echo survived")}); err != nil {
		t.Fatal(err)
	}
	out, _ := io.ReadAll(ch.Stdout())
	if exit, err := ch.Wait(); string(out) != "0022\n" || exit.Signal != "HUP" || err != nil {
		t.Errorf("said %q, ended %v, %v", out, exit, err)
	}
}

func TestH6SessionProgramHasNoForeignDescriptors(t *testing.T) {
	t.Parallel()
	k, a := liveTeam(t)
	out, _, _, err := k.askFor(a, "ann", argv("sh", "-c", "echo /proc/self/fd/*")).exec("")
	for f := range strings.FieldsSeq(out) {
		if n, _ := strconv.Atoi(filepath.Base(f)); n > 3 { // 3 is the folder that sh lists
			t.Errorf("descriptor %d", n)
		}
	}
	if err != nil || out == "" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestH4FloodIsHeldBackEndToEnd(t *testing.T) { // not parallel: it looks at memory
	k, a := liveTeam(t)
	q := k.askFor(a, "ann", argv("sh", "-c", "echo $PPID $$; exec yes"))
	ch := must(q.dial().OpenSession(within(t)))
	if err := ch.Exec(within(t), q.argv()); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(ch.Stdout())
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var pid, yes int
	if _, err := fmt.Sscan(line, &pid, &yes); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, r, 4<<20); err != nil {
		t.Fatal(err)
	}
	before := resident(t, pid)
	if _, err := io.CopyN(io.Discard, r, 16<<20); err != nil {
		t.Fatal(err)
	}
	after := resident(t, pid)
	t.Logf("session process: %d KiB after 4 MiB, %d KiB after 20 MiB", before, after)
	// A busy machine collects garbage late; what is not held back is hundreds of
	// megabytes, as fast as yes prints.
	if after > before+96<<10 {
		t.Errorf("memory grew from %d to %d KiB", before, after)
	}
	// Nobody reads any more: yes has to stand still.
	ahead, still := 0, 0
	until(t, "the program to be held back", func() bool {
		n := written(t, yes) - 20<<20
		if still++; n != ahead {
			ahead, still = n, 0
		}
		return still == 20
	})
	t.Logf("it is %d KiB ahead of its reader", ahead>>10)
	if ahead > 16<<20 { // a stream of the transport has a window of 8 MiB at most
		t.Errorf("it is %d KiB ahead of its reader", ahead>>10)
	}
	_ = ch.Close()
}

func TestE3ApprovalIsUsedOnceAlsoAfterARestart(t *testing.T) {
	t.Parallel()
	k := newTeam(t, openPolicy)
	k.startRelay()
	dir := k.join("gated")
	a := k.open(dir)
	q := k.askFor(a, "ann", argv("echo", "once"))
	q.approve("bob", approval.Approve)
	if out, _, _, err := q.exec(""); err != nil || out != "once\n" {
		t.Fatalf("%q, %v", out, err)
	}
	stop(a)
	again := k.open(dir)
	defer stop(again)
	q.agent = again
	q.hs = nil
	q.wantRefusal(refusal.ApprovalUsed)
	q.offer.Approvals = nil
	q.approve("bob", approval.Approve) // so that the ledger is asked
	again.openJudge()
	if _, r := q.send(); r != nil {
		t.Fatalf("the restarted agent answers %+v", r) // its cache is empty: the ledger is what counts
	}
	s := again.sessions.all()[0]
	if _, err := again.release(s.question, time.Now()); refusal.Of(err) != refusal.ApprovalUsed {
		t.Errorf("a second run: %v", err)
	}
}

func TestE13RightsAreCheckedAgainBeforeKeysLeave(t *testing.T) {
	k := newTeam(t, openPolicy)
	k.startRelay() // or the session is over as soon as its process finds none
	a := k.agent("gated")
	accepted := func() *live {
		q := k.askFor(a, "ann", argv("id"))
		q.approve("bob", approval.Approve)
		q.wantAccept()
		for _, s := range a.sessions.all() {
			if s.question.Hash == q.signed.Hash() {
				return s
			}
		}
		t.Fatal("no session")
		return nil
	}
	s := accepted()
	a.applyNews(wire.RosterNews{Updates: []wire.RosterUpdate{k.next(func(r *roster.Roster) { r.Revoke(k.members["bob"].ID()) })}})
	if _, err := a.release(s.question, time.Now()); refusal.Of(err) != refusal.ApproverNotAllowed {
		t.Errorf("the approver was revoked: %v", err)
	}
	if err := a.ledger.Use([]wire.Nonce{s.question.Request.ID}, time.Now().Add(time.Minute), time.Now()); err != nil {
		t.Errorf("a refused release used the request up: %v", err)
	}
}

func TestWrongConfirmChangesNothing(t *testing.T) {
	k, a := liveTeam(t)
	q := k.askFor(a, "ann", argv("echo", "still here"))
	m2, r := q.send()
	if r != nil {
		t.Fatal(r)
	}
	s := a.sessions.all()[0]
	m3, _, _, err := q.hs.Confirm(m2, func(id key.ID) (key.Public[key.Agent], error) { return a.cert.Key(id) })
	if err != nil {
		t.Fatal(err)
	}
	for at := range m3 {
		bad := bytes.Clone(m3)
		bad[at] ^= 1
		if _, err := s.handshake.Confirm(bad); err == nil {
			t.Fatalf("byte %d changed and the keys were released", at)
		}
	}
	if _, err := s.handshake.Confirm(m3); err != nil {
		t.Errorf("after the attempts: %v", err)
	}
}

func TestAuditChainTellsTheSession(t *testing.T) {
	t.Parallel()
	k, a := liveTeam(t)
	if _, _, _, err := k.askFor(a, "ann", argv("sh", "-c", "exit 3")).exec(""); err != nil {
		t.Fatal(err)
	}
	until(t, "the session to end", func() bool { return a.sessions.count() == 0 })
	k.askFor(a, "vic", nil).wantRefusal(refusal.WrongRole)
	var got []string
	for _, signed := range must(a.spool.Pending(0, wire.MaxAuditBatch)) {
		e, _, err := statement.Open[entry.Entry](signed, a.cert.FindAgent)
		if err != nil {
			t.Fatal(err)
		}
		text := string(e.Type)
		if e.Command != nil && e.Command.ExitCode != nil {
			text += fmt.Sprint(" ", *e.Command.ExitCode)
		}
		if e.Refusal != "" {
			text += " " + string(e.Refusal)
		}
		got = append(got, text)
	}
	if want := "session.accept exec.start exec.end 3 session.end session.refuse wrong_role"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func BenchmarkRequestToFirstByte(b *testing.B) {
	k, a := liveTeam(b)
	for b.Loop() {
		a.openJudge()
		q := k.askFor(a, "ann", shellRequest)
		ch := q.shell()
		if _, err := ch.Stdout().Read(make([]byte, 1)); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		_ = ch.Close()
		until(b, "the session to end", func() bool { return a.sessions.count() == 0 })
		b.StartTimer()
	}
}
