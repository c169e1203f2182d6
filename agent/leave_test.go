//go:build linux

package agent

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/agent/cgroup"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/session"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// lenientPolicy is openPolicy, and what was meant to stay may.
var lenientPolicy = strings.Replace(openPolicy, `actions = ["shell", "exec"]`, `actions = ["shell", "exec", "background"]`, 1)

// leaving starts a daemon, a program under nohup and a plain one, and ends when each of
// them has said that it runs as what it is.
var leaving = argv("sh", "-c", "{ setsid sh -c 'echo daemon $$; exec sleep 1000 >&-' & nohup sh -c 'echo nohup $$; exec sleep 1000 >&-' 2>&- <&- & sh -c 'echo plain $$; exec sleep 1000 >&-' & } | "+
	`{ read -r a; read -r b; read -r c; printf '%s\n' "$a" "$b" "$c"; }`)

// left runs leaving, waits for the end of its session and returns what it started.
func left(q *ask) (pids map[string]int) {
	t, a := q.team.t.(*testing.T), q.agent
	t.Helper()
	out, _, _, err := q.exec("")
	if err != nil {
		t.Fatal(err)
	}
	pids = make(map[string]int)
	for line := range strings.Lines(out) {
		var name string
		var pid int
		if _, err := fmt.Sscan(line, &name, &pid); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
		pids[name] = pid
	}
	if len(pids) != 3 {
		t.Fatalf("it says %q", out)
	}
	until(t, "the session to go", func() bool { return a.sessions.count() == 0 })
	return pids
}

// wantStaying says which of them go on; the others have been ended, or are just dying.
func wantStaying(t *testing.T, pids map[string]int, want ...string) {
	t.Helper()
	for name, pid := range pids {
		should := strings.Contains(" "+strings.Join(want, " ")+" ", " "+name+" ")
		if should && !alive(pid) {
			t.Errorf("%s has ended", name)
		}
		if !should {
			until(t, name+" to end", func() bool { return !alive(pid) })
		}
	}
}

func wantGroups(t *testing.T, a *Agent) {
	t.Helper()
	if a.groups == nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs control groups")
		}
		t.Skip("no control groups: run the test as root where /sys/fs/cgroup is writable")
	}
}

// Only what says that it is to stay does, only where the policy says so as well, and the
// log tells it.
func TestWhatWasMeantToStayOutlivesItsSessionWhereThePolicyLetsIt(t *testing.T) {
	for name, c := range map[string]struct {
		policy string
		groups bool
		stay   []string
	}{
		"allowed":               {lenientPolicy, true, []string{"daemon", "nohup"}},
		"allowed, no groups":    {lenientPolicy, false, []string{"daemon", "nohup"}},
		"not named":             {openPolicy, true, nil},
		"not named, no groups":  {openPolicy, false, nil},
		"blocked":               {lenientPolicy + "[[block]]\nid = \"clean\"\nactions = [\"background\"]\n", true, nil},
		"for other users alone": {openPolicy + "[[allow]]\nid = \"other\"\nwho.roles = [\"operator\"]\nactions = [\"background\"]\nusers = [\"mail\"]\n", true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newTeam(t, c.policy)
			k.startRelay()
			a := k.agent()
			if c.groups {
				wantGroups(t, a)
			} else {
				a.groups = nil
			}
			pids := left(k.askFor(a, "ann", leaving))
			wantStaying(t, pids, c.stay...)
			opened := false
			for _, signed := range must(a.spool.Pending(0, wire.MaxAuditBatch)) {
				e, _, err := statement.Open[entry.Entry](signed, a.cert.FindAgent)
				if err != nil {
					t.Fatal(err)
				}
				opened = opened || e.Type == entry.ChannelOpen && e.Command.Action == wire.Action(policy.Background) && e.Policy.Rule == "team"
			}
			if opened != (c.stay != nil) {
				t.Errorf("the log tells of it: %v", opened)
			}
		})
	}
}

func TestASessionThatLeavesNothingAsksForNothing(t *testing.T) {
	t.Parallel()
	k := newTeam(t, lenientPolicy)
	k.startRelay()
	a := k.agent()
	// The orphan in a session of its own is dead, or a zombie, before the program ends.
	orphan := `(setsid true & echo $!) | { read -r p; while grep -q ') [^ZX] ' /proc/$p/stat; do :; done; } 2>/dev/null`
	if _, _, _, err := k.askFor(a, "ann", argv("sh", "-c", orphan)).exec(""); err != nil {
		t.Fatal(err)
	}
	until(t, "the session to go", func() bool { return a.sessions.count() == 0 })
	if a.left.count() != 0 {
		t.Error("something is counted as left")
	}
}

// Who may leave programs behind leaves them also when the connection ends first, and not
// when the session is cut.
func TestG6ACutSessionLeavesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(k *team, a *Agent, ch *session.Channel)
		stay bool
	}{
		"gone":    {func(_ *team, _ *Agent, ch *session.Channel) { _ = ch.Close() }, true},
		"revoked": {func(k *team, a *Agent, _ *session.Channel) { revoke(k, a, "ann") }, false},
		"stopped": {func(_ *team, a *Agent, _ *session.Channel) { a.sessions.close() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newTeam(t, lenientPolicy)
			k.startRelay()
			a := k.agent()
			ch, pid, _ := daemon(k.askFor(a, "ann", daemonize))
			defer func() { _ = syscall.Kill(pid, syscall.SIGKILL) }()
			c.end(k, a, ch)
			until(t, "the session to go", func() bool { return a.sessions.count() == 0 })
			if c.stay && !alive(pid) {
				t.Error("the daemon has ended")
			}
			if !c.stay { // the kernel counts the killed out of their group before they are dead
				until(t, "the daemon to die", func() bool { return !alive(pid) })
			}
		})
	}
}

func revoke(k *team, a *Agent, who string) {
	a.applyNews(wire.RosterNews{Updates: []wire.RosterUpdate{k.next(func(r *roster.Roster) { r.Revoke(k.members[who].ID()) })}})
}

// What an operator left running ends with the operator's key, also when another agent
// than the one that left it runs by then.
func TestG6WhatARevokedOperatorLeftEnds(t *testing.T) {
	t.Parallel()
	k := newTeam(t, lenientPolicy)
	k.startRelay()
	dir := k.join()
	a := k.open(dir)
	if a.groups == nil {
		stop(a)
	}
	wantGroups(t, a)
	ann, eve := left(k.askFor(a, "ann", leaving)), left(k.askFor(a, "eve", leaving))
	stop(a)
	wantStaying(t, ann, "daemon", "nohup")
	b := k.open(dir)
	defer stop(b)
	if n := b.left.count(); n != 2 {
		t.Errorf("the next agent knows of %d", n)
	}
	wantStaying(t, eve, "daemon", "nohup")
	revoke(k, b, "eve")
	until(t, "what eve left to end", func() bool { return !alive(eve["daemon"]) && !alive(eve["nohup"]) })
	wantStaying(t, ann, "daemon", "nohup")
	revoke(k, b, "ann")
	until(t, "what ann left to end", func() bool { return !alive(ann["daemon"]) && !alive(ann["nohup"]) })
	until(t, "what has ended to be counted no more", func() bool { return b.left.count() == 0 })
}

// A yes that a session process fetched at the beginning is worth nothing at the end, when
// the policy has become another or other sessions have taken the places.
func TestAnEarlyYesLeavesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		between func(k *team, a *Agent)
		stay    bool
	}{
		"nothing":        {func(*team, *Agent) {}, true},
		"another policy": {func(k *team, a *Agent) { a.applyNews(k.setPolicy(openPolicy)) }, false},
		"no place": {func(_ *team, a *Agent) {
			for range maxLeft {
				a.left.add(new(cgroup.Group), key.ID{})
			}
		}, false},
		"no place of the operator's": {func(k *team, a *Agent) { fillPlaces(k, a, "ann") }, false},
		"places that are another's":  {func(k *team, a *Agent) { fillPlaces(k, a, "eve") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newTeam(t, lenientPolicy)
			k.startRelay()
			a := k.agent()
			wantGroups(t, a)
			ch, _, _ := daemon(k.askFor(a, "ann", daemonize))
			defer ch.Close()
			s := &live{agent: a, background: true}
			for _, o := range a.sessions.all() {
				s.question = o.question // the answer is its goroutine's
			}
			s.answer = must(a.judge.Again(s.question, time.Now()))
			s.group = must(a.groups.Make("early"))
			sleep := exec.Command("sleep", "1000")
			if err := sleep.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = sleep.Process.Kill(); _ = sleep.Wait() }()
			if err := s.group.Add(sleep.Process.Pid); err != nil {
				t.Fatal(err)
			}
			c.between(k, a)
			before := a.left.count()
			if err := s.endGroup(true); err != nil {
				t.Fatal(err)
			}
			if stay := a.left.count() > before; stay != c.stay {
				t.Errorf("it was left: %v", stay)
			}
			_ = s.group.End()
			if a.left.count() > maxLeft {
				t.Errorf("%d are left", a.left.count())
			}
		})
	}
}

// fillPlaces takes all places that what is left of one operator has.
func fillPlaces(k *team, a *Agent, who string) {
	for range maxLeftPerOperator {
		a.left.add(new(cgroup.Group), k.members[who].ID())
	}
}

// One operator cannot take the places of all others, however many sessions leave
// something, and is told that it is about places.
func TestH8OneOperatorCannotTakeEveryPlaceForWhatStays(t *testing.T) {
	l := newLeftovers()
	ann, eve := key.ID{1}, key.ID{2}
	groups := make([]cgroup.Group, maxLeft+1)
	taken := 0
	for i := range groups {
		if l.take(&groups[i], ann) == nil {
			taken++
		}
	}
	if err := l.take(new(cgroup.Group), ann); taken != maxLeftPerOperator || refusal.Of(err) != refusal.TooMany || !strings.Contains(err.Error(), "of one operator") {
		t.Errorf("one operator has %d places, and then %v", taken, err)
	}
	if err := l.take(new(cgroup.Group), eve); err != nil {
		t.Errorf("another one: %v", err)
	}
	l.forget(&groups[0])
	if err := l.take(new(cgroup.Group), ann); err != nil {
		t.Errorf("a place that is free again: %v", err)
	}
	for i := range byte(8) {
		for range maxLeftPerOperator {
			_ = l.take(new(cgroup.Group), key.ID{9, i})
		}
	}
	if err := l.take(new(cgroup.Group), key.ID{3}); l.count() != maxLeft || refusal.Of(err) != refusal.TooMany {
		t.Errorf("%d places are taken, and then %v", l.count(), err)
	}
}

// Who approved a run approved its end, unless the rule that it ran by says otherwise.
func TestAnApprovedRunLeavesNothingUnlessItsOwnRuleSaysSo(t *testing.T) {
	apart := openPolicy + "[[allow]]\nid = \"zz\"\nwho.roles = [\"operator\"]\nactions = [\"background\"]\n"
	for name, c := range map[string]struct {
		policy string
		stay   []string
	}{
		"named":          {policy: lenientPolicy, stay: []string{"daemon", "nohup"}},
		"by another one": {policy: apart},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newTeam(t, c.policy)
			k.startRelay()
			a := k.agent("gated")
			q := k.askFor(a, "ann", leaving)
			q.approve("bob", approval.Approve)
			wantStaying(t, left(q), c.stay...)
		})
	}
}
