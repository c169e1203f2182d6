//go:build linux

package agent

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// resident returns a process' resident memory in KiB.
func resident(t testing.TB, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(v), " kB"))
			return n
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// written returns how many bytes a process has written.
func written(t testing.TB, pid int) int {
	t.Helper()
	for line := range strings.Lines(string(must(os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))))) {
		if v, ok := strings.CutPrefix(line, "wchar: "); ok {
			return must(strconv.Atoi(strings.TrimSpace(v)))
		}
	}
	t.Fatal("no wchar")
	return 0
}

func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(b, []byte(") Z "))
}

// sleeper starts a program that says its process id and sleeps.
func sleeper(q *ask) (*session.Channel, int) {
	t := q.team.t
	t.Helper()
	ch := must(q.dial().OpenSession(within(t)))
	if err := ch.Exec(within(t), q.argv()); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(ch.Stdout()).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return ch, must(strconv.Atoi(strings.TrimSpace(line)))
}

// lasting is a sleeper until its session ends, and by what it did. A session that is
// over before its program could say its process id has 0: a second is short for a machine
// that is busy.
func (q *ask) lasting() (pid int, err error) {
	conn, err := q.tryDial()
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	ch, err := conn.OpenSession(within(q.team.t))
	if err != nil {
		return 0, err
	}
	if err := ch.Exec(within(q.team.t), q.argv()); err != nil {
		return 0, err
	}
	_, _ = fmt.Fscanln(ch.Stdout(), &pid)
	_, err = ch.Wait()
	return pid, err
}

// stubborn ignores a hang-up, so that it takes two seconds to end it.
var (
	sleep    = argv("sh", "-c", "echo $$; exec sleep 1000")
	stubborn = argv("sh", "-c", "trap '' HUP; echo $$; exec sleep 1000")
)

// daemon starts a program whose grandchild leaves session and parent; it returns
// that one's process id and the session process'.
func daemon(q *ask) (ch *session.Channel, pid, worker int) {
	t := q.team.t
	t.Helper()
	ch = must(q.dial().OpenSession(within(t)))
	if err := ch.Exec(within(t), q.argv()); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(ch.Stdout()).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(line, &pid, &worker); err != nil {
		t.Fatal(err)
	}
	return ch, pid, worker
}

var daemonize = argv("sh", "-c", "p=$PPID; (setsid sh -c \"trap '' HUP TERM; echo \\$\\$ $p; exec sleep 1000\" &); exec sleep 1000")

// A daemon that a session started dies with it: also when the session process is
// killed where control groups can be had, and else when it ends in order.
func TestH2DaemonDiesWithTheSession(t *testing.T) {
	for name, how := range map[string]struct {
		groups bool
		end    func(ch *session.Channel, worker int)
	}{
		"group, worker killed": {true, func(_ *session.Channel, worker int) { _ = syscall.Kill(worker, syscall.SIGKILL) }},
		"group":                {true, func(ch *session.Channel, _ int) { _ = ch.Close() }},
		"no group":             {false, func(ch *session.Channel, _ int) { _ = ch.Close() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, a := liveTeam(t)
			if !how.groups {
				a.groups = nil
			} else if a.groups == nil {
				if os.Getenv("CI") == "true" {
					t.Fatal("needs control groups")
				}
				t.Skip("no control groups: run the test as root where /sys/fs/cgroup is writable")
			}
			ch, pid, worker := daemon(k.askFor(a, "ann", daemonize))
			if !alive(pid) {
				t.Fatal("the daemon did not start")
			}
			how.end(ch, worker)
			until(t, "the daemon to die", func() bool { return !alive(pid) })
			until(t, "the session to go", func() bool { return a.sessions.count() == 0 })
		})
	}
}

func TestH2WhatAKilledAgentLeftIsEnded(t *testing.T) {
	k := newTeam(t, openPolicy)
	dir := k.join()
	a := k.open(dir)
	if a.groups == nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs control groups")
		}
		t.Skip("no control groups: run the test as root where /sys/fs/cgroup is writable")
	}
	g := must(a.groups.Make("left"))
	cmd := exec.Command("/bin/sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := g.Add(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	stop(a)
	stop(k.open(dir))
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the program ended with %v", err)
	}
}

// Whoever stops an agent to upgrade it does not leave people to look for a fault.
func TestAStoppedAgentTellsItsOperatorsSo(t *testing.T) {
	t.Parallel()
	k := newTeam(t, openPolicy)
	k.startRelay()
	a := k.open(k.join())
	ch, pid := sleeper(k.askFor(a, "ann", sleep))
	stop(a)
	if _, err := ch.Wait(); refusal.Of(err) != refusal.AgentStopped {
		t.Errorf("the operator learns %v", err)
	}
	until(t, "the program to die", func() bool { return !alive(pid) })
}

func TestAStoppingAgentSaysSoToWhoComesLate(t *testing.T) {
	k := newTeam(t, openPolicy)
	a := k.agent()
	a.sessions.close()
	k.askFor(a, "ann", nil).wantRefusal(refusal.AgentStopped)
}

func TestG6RevokedOperatorIsCut(t *testing.T) {
	t.Parallel()
	k, a := liveTeam(t)
	ann, eve := k.askFor(a, "ann", sleep), k.askFor(a, "eve", stubborn)
	_, annPid := sleeper(ann)
	ch, evePid := sleeper(eve)
	a.applyNews(wire.RosterNews{Updates: []wire.RosterUpdate{k.next(func(r *roster.Roster) { r.Revoke(k.members["eve"].ID()) })}})
	if _, err := ch.Wait(); refusal.Of(err) != refusal.KeyRevoked {
		t.Errorf("the operator learns %v", err)
	}
	until(t, "the program to die", func() bool { return !alive(evePid) })
	until(t, "the session to go", func() bool { return a.sessions.count() == 1 })
	if !alive(annPid) {
		t.Error("somebody else's session was cut too")
	}
}

// A key that is good until a moment is not good for a session that began before it,
// with nothing new from any server; the same goes for a kept shell.
func TestG6SessionEndsWithItsOperatorsKey(t *testing.T) {
	t.Parallel()
	k, a := liveTeam(t)
	_, annPid := sleeper(k.askFor(a, "ann", sleep))
	ch, evePid := sleeper(k.askFor(a, "eve", sleep))
	kept, err := k.sit(a, "eve", keeping(wire.KeepOpen, "build", "echo pid $$; exec sleep 1000"))
	if err != nil {
		t.Fatal(err)
	}
	keptPid := pidIn(t, kept)
	kept.away()
	ctx, cancel := context.WithCancel(t.Context())
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() { a.keepEnforced(ctx) })
	a.applyNews(wire.RosterNews{Updates: []wire.RosterUpdate{k.next(func(r *roster.Roster) {
		for i := range r.Operators {
			if r.Operators[i].Key.ID() == k.members["eve"].ID() {
				r.Operators[i].NotAfter = wire.At(time.Now().Add(enforceEvery))
			}
		}
	})}})
	if _, err := ch.Wait(); refusal.Of(err) != refusal.Expired {
		t.Errorf("the operator learns %v", err)
	}
	until(t, "the programs to die", func() bool { return !alive(evePid) && !alive(keptPid) })
	until(t, "the session to go", func() bool { return a.sessions.count() == 1 })
	if !alive(annPid) {
		t.Error("somebody else's session was cut too")
	}
}

func TestG6SessionEndsWithItsMachinesCertificate(t *testing.T) {
	t.Parallel()
	k := newTeam(t, openPolicy)
	k.startRelay()
	k.ends = wire.At(time.Now().Add(time.Hour))
	a := k.agent()
	ch, pid := sleeper(k.askFor(a, "ann", sleep))
	a.enforce(k.ends.Time().Add(-time.Second))
	if a.sessions.count() != 1 || !alive(pid) {
		t.Error("ended before its time")
	}
	a.enforce(k.ends.Time())
	if _, err := ch.Wait(); refusal.Of(err) != refusal.Expired {
		t.Errorf("the operator learns %v", err)
	}
	until(t, "the program to die", func() bool { return !alive(pid) })
}

func TestServerCutsASession(t *testing.T) {
	t.Parallel()
	k, a := liveTeam(t)
	q := k.askFor(a, "ann", sleep)
	_, pid := sleeper(q)
	a.cut(wire.Cut{Session: q.request.Session, Code: "no spaces allowed"})
	until(t, "the program to die", func() bool { return !alive(pid) })
}

// Nobody but the supervisor can say what became of a session whose process was
// killed, and whoever waits for it asks the log.
func TestKilledSessionProcessIsLoggedAsGone(t *testing.T) {
	t.Parallel()
	k, a := liveTeam(t)
	q := k.askFor(a, "ann", sleep)
	_, pid := sleeper(q)
	if err := syscall.Kill(parentOf(t, pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "the session to go", func() bool { return a.sessions.count() == 0 })
	list := logged(a, entry.SessionEnd)
	if len(list) != 1 || list[0].Refusal != refusal.Gone || list[0].Session != q.request.Session || list[0].Actor.Kid != q.request.Operator {
		t.Errorf("%+v", list)
	}
}

func TestOperatorGoneEndsTheProgram(t *testing.T) {
	t.Parallel()
	k, a := liveTeam(t)
	ch, pid := sleeper(k.askFor(a, "ann", sleep))
	_ = ch.Close()
	until(t, "the program to die", func() bool { return !alive(pid) })
	until(t, "the session to go", func() bool { return a.sessions.count() == 0 })
}

func TestSessionLimitsOfThePolicy(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]string{"duration": "session", "idle": "idle"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var pid int
			var err error
			for life := time.Second; pid == 0; life *= 2 {
				if life > patience {
					t.Fatalf("every session ended before its program ran: %v", err)
				}
				k := newTeam(t, openPolicy+fmt.Sprintf("[limits]\n%s = %q\n", limit, life))
				k.startRelay()
				pid, err = k.askFor(k.agent(), "ann", sleep).lasting()
			}
			if refusal.Of(err) != refusal.Expired {
				t.Errorf("the operator learns %v", err)
			}
			until(t, "the program to die", func() bool { return !alive(pid) })
		})
	}
}

// What the policy gives a number of hours has them also while the machine sleeps, when
// no timer goes on; a kept shell has as long as is left of it.
func TestLimitsGoOnWhileTheMachineSleeps(t *testing.T) {
	t.Parallel()
	k := newTeam(t, strings.Replace(openPolicy, "users = [", "limits.session = \"8h\"\nlimits.resume = \"1h\"\nusers = [", 1))
	k.startRelay()
	a := k.agent()
	ch, pid := sleeper(k.askFor(a, "ann", sleep))
	kept := k.mustSit(a, keeping(wire.KeepOpen, "build", "echo pid $$; exec sleep 1000"))
	keptPid := pidIn(t, kept)
	kept.away()
	until(t, "the terminal to be left", func() bool { return a.sessions.count() == 1 })
	awake := func(hours float64) time.Time { // the wall's clock alone has gone on
		return time.Now().Round(0).Add(time.Duration(hours * float64(time.Hour)))
	}
	a.enforce(awake(0.9))
	if !alive(pid) || !alive(keptPid) {
		t.Error("ended before its time")
	}
	a.enforce(awake(1.1))
	until(t, "the kept shell to end", func() bool { return !alive(keptPid) })
	if !alive(pid) {
		t.Error("the session ended with a shell that it has nothing to do with")
	}
	a.enforce(awake(8.1))
	if _, err := ch.Wait(); refusal.Of(err) != refusal.Expired {
		t.Errorf("the operator learns %v", err)
	}
	until(t, "the program to die", func() bool { return !alive(pid) })
	until(t, "the log to say why", func() bool {
		list := logged(a, entry.SessionEnd)
		return len(list) == 2 && list[1].Refusal == refusal.Expired
	})
}
