//go:build linux

package agent

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/agent/pair"
	"github.com/tucdesk/tucdesk/agent/shelf"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// keeping makes a request about kept shells.
func keeping(do wire.KeepDo, name string, line ...string) func(*wire.Request) {
	return func(r *wire.Request) {
		argv(line...)(r)
		r.Action, r.Params.Keep = wire.Shell, &wire.Keep{Do: do, Name: name}
		r.Params.TTY = r.Params.Keep.Runs()
	}
}

// seat is one terminal that a person sits at.
type seat struct {
	t    *testing.T
	conn *session.Conn
	ch   *session.Channel
	done chan struct{}

	mu  sync.Mutex
	all strings.Builder // guarded by mu
}

// sit opens a session for a kept shell; the error is what the agent said to it.
func (k *team) sit(a *Agent, who string, edit func(*wire.Request)) (*seat, error) {
	t := k.t.(*testing.T)
	t.Helper()
	conn, err := k.askFor(a, who, edit).tryDial()
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = conn.Close() })
	s := &seat{t: t, conn: conn, done: make(chan struct{})}
	if s.ch, err = conn.OpenSession(within(t)); err != nil {
		return nil, err
	}
	_ = s.ch.RequestPTY(session.PTY{Term: "xterm", Size: session.Size{Columns: 80, Rows: 24}})
	if err := s.ch.Shell(within(t)); err != nil {
		return nil, err
	}
	go func() {
		defer close(s.done)
		b := make([]byte, 4<<10)
		for {
			n, err := s.ch.Stdout().Read(b)
			s.mu.Lock()
			s.all.Write(b[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(s.away)
	return s, nil
}

// away ends the session and nothing else.
func (s *seat) away() {
	_ = s.conn.Close()
	<-s.done
}

func (s *seat) types(text string) { must(io.WriteString(s.ch.Stdin(), text)) }

func (s *seat) shows(text string) {
	s.t.Helper()
	until(s.t, fmt.Sprintf("%q", text), func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return strings.Contains(s.all.String(), text)
	})
}

func (k *team) mustSit(a *Agent, edit func(*wire.Request)) *seat {
	k.t.Helper()
	s, err := k.sit(a, "ann", edit)
	if err != nil {
		k.t.Fatal(err)
	}
	return s
}

// simple asks for a list, or for the end of a shell.
func (k *team) simple(a *Agent, who string, do wire.KeepDo, name string) (string, error) {
	k.t.Helper()
	ch := must(k.askFor(a, who, keeping(do, name)).dial().OpenSession(within(k.t)))
	if err := ch.Shell(within(k.t)); err != nil {
		return "", err
	}
	out, _ := io.ReadAll(ch.Stdout())
	_, err := ch.Wait()
	return string(out), err
}

func (k *team) kept(a *Agent, who string) (list []pair.KeptShell) {
	k.t.Helper()
	out := must(k.simple(a, who, wire.KeepList, ""))
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		k.t.Fatalf("%q: %v", out, err)
	}
	return list
}

const counter = `x=before; while read a; do echo "[$x $a]"; x=$a; done`

func TestKeptShellOutlivesItsSession(t *testing.T) {
	t.Parallel()
	k, a := liveTeam(t)
	first := k.mustSit(a, keeping(wire.KeepOpen, "build", counter))
	first.types("one\n")
	first.shows("[before one]")
	first.away()
	until(t, "the session to end", func() bool { return a.sessions.count() == 0 })
	list := k.kept(a, "ann")
	if len(list) != 1 || list[0].Name != "build" || list[0].Attached || list[0].Until == nil || list[0].Left == nil {
		t.Fatalf("%+v", list)
	}
	again := k.mustSit(a, keeping(wire.KeepAttach, "build"))
	again.shows("[before one]")
	again.types("two\n")
	again.shows("[one two]")
	if list := k.kept(a, "ann"); len(list) != 1 || !list[0].Attached {
		t.Errorf("%+v", list)
	}
	again.types("\x04") // the shell's own end ends session and all
	<-again.done
	if exit, err := again.ch.Wait(); err != nil || exit != (session.Exit{}) {
		t.Errorf("%+v, %v", exit, err)
	}
	until(t, "the holder to end", func() bool { return len(k.kept(a, "ann")) == 0 })
	if _, err := k.sit(a, "ann", keeping(wire.KeepAttach, "build")); refusal.Of(err) != refusal.NotFound {
		t.Errorf("attached to what has ended: %v", err)
	}
	until(t, "the log to have it all", func() bool { return len(logged(a, entry.KeptEnd)) == 1 })
	for typ, n := range map[entry.EventType]int{entry.KeptStart: 1, entry.KeptAttach: 2, entry.KeptDetach: 1} {
		if got := logged(a, typ); len(got) != n || got[0].Command.Keep == nil || got[0].Command.Keep.Name != "build" {
			t.Errorf("%s: %d entries, want %d", typ, len(got), n)
		}
	}
}

// logged are the entries of that type in the agent's chain.
func logged(a *Agent, typ entry.EventType) (list []entry.Entry) {
	for _, s := range must(a.spool.Pending(0, 1<<16)) {
		if e := entry.Peek(s); e.Type == typ {
			list = append(list, e)
		}
	}
	return list
}

func TestKeptShellIsItsOperatorsAlone(t *testing.T) {
	t.Parallel()
	k, a := liveTeam(t)
	k.mustSit(a, keeping(wire.KeepOpen, "build", counter))
	for _, who := range []string{"eve", "ann2", "adm"} { // ann2 is another key of the same person
		if _, err := k.sit(a, who, keeping(wire.KeepAttach, "build")); refusal.Of(err) != refusal.NotFound {
			t.Errorf("%s attaches: %v", who, err)
		}
		if _, err := k.simple(a, who, wire.KeepKill, "build"); refusal.Of(err) != refusal.NotFound {
			t.Errorf("%s ends it: %v", who, err)
		}
		if list := k.kept(a, who); len(list) != 0 {
			t.Errorf("%s sees %+v", who, list)
		}
	}
	k.askFor(a, "vic", keeping(wire.KeepList, "")).wantRefusal(refusal.WrongRole)
	if list := k.kept(a, "ann"); len(list) != 1 || !list[0].Attached {
		t.Errorf("%+v", list)
	}
}

func TestPolicyIsAskedAgainForAKeptShell(t *testing.T) {
	t.Parallel()
	k, a := liveTeam(t)
	k.mustSit(a, keeping(wire.KeepOpen, "build", counter)).away()
	news := k.setPolicy(strings.Replace(openPolicy, `actions = ["shell", "exec"]`, `actions = ["exec"]`, 1))
	a.applyNews(news)
	k.askFor(a, "ann", keeping(wire.KeepAttach, "build")).wantRefusal(refusal.PolicyDenied)
	k.askFor(a, "ann", keeping(wire.KeepList, "")).wantRefusal(refusal.PolicyDenied)
}

func TestG6RevokedOperatorsKeptShellEnds(t *testing.T) {
	t.Parallel()
	k, a := liveTeam(t)
	first := k.mustSit(a, keeping(wire.KeepOpen, "build", "echo pid $$; exec sleep 1000"))
	first.shows("pid ")
	pid := pidIn(t, first)
	first.away()
	a.applyNews(wire.RosterNews{Updates: []wire.RosterUpdate{k.next(func(r *roster.Roster) { r.Revoke(k.members["ann"].ID()) })}})
	until(t, "the shell to end", func() bool { return !alive(pid) })
	until(t, "the log to say why", func() bool {
		list := logged(a, entry.KeptEnd)
		return len(list) == 1 && list[0].Refusal == refusal.KeyRevoked
	})
}

func pidIn(t *testing.T, s *seat) (pid int) {
	t.Helper()
	until(t, "a number", func() bool { pid = s.pid(); return pid != 0 })
	return pid
}

// pid is the process id that the shell has said, or 0.
func (s *seat) pid() (pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, rest, _ := strings.Cut(s.all.String(), "pid ")
	if n, _ := fmt.Sscanf(rest, "%d\r\n", &pid); n != 1 || !strings.Contains(rest, "\n") {
		return 0
	}
	return pid
}

// keptWithin leaves a kept shell to a limit of the policy: of two seconds, or where a busy
// machine needs longer to start it, of as many as that needs.
func keptWithin(t *testing.T, limit string) (a *Agent, pid int) {
	t.Helper()
	for life := 2 * time.Second; life < patience; life *= 2 {
		k := newTeam(t, strings.Replace(openPolicy, "users = [", fmt.Sprintf("limits.%s = %q\nusers = [", limit, life), 1))
		k.startRelay()
		a = k.agent()
		s, err := k.sit(a, "ann", keeping(wire.KeepOpen, "build", "echo pid $$; exec sleep 1000"))
		if err != nil {
			continue
		}
		until(t, "a number, or the end", func() bool {
			select {
			case <-s.done:
				return true
			default:
				return s.pid() != 0
			}
		})
		s.away()
		if pid = s.pid(); pid != 0 {
			return a, pid
		}
	}
	t.Fatalf("every shell ended by its limit %s before it said a word", limit)
	return nil, 0
}

// TestKeptShellEndsWithItsTime: nobody comes back within the policy's resume time.
func TestKeptShellEndsWithItsTime(t *testing.T) {
	t.Parallel()
	for _, limit := range []string{"resume", "idle", "session"} {
		a, pid := keptWithin(t, limit)
		until(t, "the shell to end with "+limit, func() bool { return !alive(pid) })
		until(t, "the log to say why", func() bool {
			list := logged(a, entry.KeptEnd)
			return len(list) == 1 && list[0].Refusal == refusal.Expired
		})
	}
}

func TestKillEndsAKeptShellAndWhatItLeft(t *testing.T) {
	t.Parallel()
	k, a := liveTeam(t)
	first := k.mustSit(a, keeping(wire.KeepOpen, "build", "setsid sleep 1000 & echo pid $!; trap '' HUP TERM; while :; do sleep 1; done"))
	pid := pidIn(t, first)
	must(k.simple(a, "ann", wire.KeepKill, "build"))
	<-first.done
	until(t, "everything to end", func() bool { return !alive(pid) })
	if _, err := k.simple(a, "ann", wire.KeepKill, "build"); refusal.Of(err) != refusal.NotFound {
		t.Errorf("ended twice: %v", err)
	}
}

func TestNewSessionTakesAKeptShellOver(t *testing.T) {
	t.Parallel()
	k, a := liveTeam(t)
	first := k.mustSit(a, keeping(wire.KeepOpen, "build", counter))
	first.types("one\n")
	first.shows("[before one]")
	second := k.mustSit(a, keeping(wire.KeepOpen, "build"))
	exit, err := first.ch.Wait()
	if err != nil || exit.Refusal == nil || exit.Refusal.Code != refusal.TakenOver {
		t.Errorf("the first one hears %+v, %v", exit, err)
	}
	second.types("two\n")
	second.shows("[one two]")
	if _, err := k.sit(a, "ann", keeping(wire.KeepOpen, "build", "another command")); refusal.Of(err) != refusal.NameTaken {
		t.Errorf("a command is to run where a shell of that name does: %v", err)
	}
}

func TestH8KeptShellsAreBounded(t *testing.T) {
	t.Parallel()
	k, a := liveTeam(t)
	for i := range shelf.MaxPerOperator {
		k.mustSit(a, keeping(wire.KeepOpen, fmt.Sprint("n", i), "cat")).away()
	}
	if _, err := k.sit(a, "ann", keeping(wire.KeepOpen, "more", "cat")); refusal.Of(err) != refusal.TooMany {
		t.Errorf("one more: %v", err)
	}
	if _, err := k.sit(a, "eve", keeping(wire.KeepOpen, "more", "cat")); err != nil {
		t.Errorf("somebody else's: %v", err)
	}
}

func TestRequestsForKeptShellsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	k, a := liveTeam(t)
	for name, edit := range map[string]func(*wire.Request){
		"exec": func(r *wire.Request) { r.Params.Keep, r.Params.TTY = &wire.Keep{Do: wire.KeepOpen, Name: "a"}, true },
		"no terminal": func(r *wire.Request) {
			keeping(wire.KeepOpen, "a")(r)
			r.Params.TTY = false
		},
		"a list on a terminal": func(r *wire.Request) {
			keeping(wire.KeepList, "")(r)
			r.Params.TTY = true
		},
		"attach with a command": keeping(wire.KeepAttach, "a", "id"),
		"no name":               keeping(wire.KeepOpen, ""),
		"a path":                keeping(wire.KeepOpen, "../a"),
		"escapes":               keeping(wire.KeepOpen, "a\x1b[2J"),
		"unknown":               keeping("steal", "a"),
	} {
		q := k.askFor(a, "ann", edit)
		if _, r := q.send(); r == nil || r.Code != refusal.BadArgument {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestH2KeptShellDiesWithTheAgent(t *testing.T) {
	t.Parallel()
	k := newTeam(t, openPolicy)
	k.startRelay()
	a := k.open(k.join())
	first := k.mustSit(a, keeping(wire.KeepOpen, "build", "trap '' HUP TERM; echo pid $$; while :; do sleep 1; done"))
	pid := pidIn(t, first)
	first.away()
	stop(a)
	until(t, "the shell to die", func() bool { return !alive(pid) }) // of itself it runs for ever
}

// TestKilledHolderTakesItsShellAlong: and nothing else; its operator hears of it.
func TestKilledHolderTakesItsShellAlong(t *testing.T) {
	t.Parallel()
	k, a := liveTeam(t)
	s := k.mustSit(a, keeping(wire.KeepOpen, "build", "trap '' HUP TERM; echo pid $$; while :; do sleep 1; done"))
	pid := pidIn(t, s)
	if err := syscall.Kill(parentOf(t, pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if exit, err := s.ch.Wait(); err != nil || exit.Refusal == nil || exit.Refusal.Code != refusal.Unavailable {
		t.Errorf("the operator hears %+v, %v", exit, err)
	}
	until(t, "the program to die", func() bool { return !alive(pid) })
	until(t, "the shell to be forgotten", func() bool { return len(k.kept(a, "ann")) == 0 })
	until(t, "the log to have its end", func() bool { return len(logged(a, entry.KeptEnd)) > 0 }) // nobody may join it before that
	if list := logged(a, entry.KeptEnd); len(list) != 1 || list[0].Command.Signal != "KILL" {
		t.Errorf("%+v", list)
	}
}

// TestKilledSessionProcessLeavesTheShell: whatever happens to the process with the
// keys, the shell goes on.
func TestKilledSessionProcessLeavesTheShell(t *testing.T) {
	t.Parallel()
	k, a := liveTeam(t)
	s := k.mustSit(a, keeping(wire.KeepOpen, "build", counter))
	s.types("one\n")
	s.shows("[before one]")
	for _, l := range a.sessions.all() {
		if err := l.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the session to end", func() bool { return a.sessions.count() == 0 })
	_ = s.conn.Close()
	again := k.mustSit(a, keeping(wire.KeepAttach, "build"))
	again.shows("[before one]")
	again.types("two\n")
	again.shows("[one two]")
}
