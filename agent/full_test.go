//go:build linux

package agent

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/spool"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// fillSpool writes what cannot be refused into a spool of 2 MiB until nothing fits any more.
func fillSpool(t *testing.T, a *Agent) {
	t.Helper()
	a.spool.LimitForTest(2 << 20)
	argv := slices.Repeat([]wire.Bytes{wire.Bytes(strings.Repeat("a b ", 500))}, 8)
	for {
		err := a.record(entry.Entry{Type: entry.ExecEnd, Command: &entry.Command{Action: wire.Exec, Argv: argv}})
		if refusal.Of(err) == refusal.AuditFull {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// N9: no session without a record. The agent says so before it starts a process for one,
// in its status, and for one that was accepted while there was room.
func TestN9NoSessionBeginsWhileTheSpoolIsFull(t *testing.T) {
	t.Parallel()
	k := newTeam(t, openPolicy)
	a := k.agent()
	k.askFor(a, "ann", nil).wantAccept()
	waiting := a.sessions.all()
	fillSpool(t, a)
	k.askFor(a, "ann", nil).wantRefusal(refusal.AuditFull)
	for _, s := range waiting {
		if _, err := a.release(s.question, time.Now()); refusal.Of(err) != refusal.AuditFull {
			t.Errorf("a session of before: %v", err)
		}
	}
	if s := a.status(time.Now()); s.Code != refusal.AuditFull || len(s.Warnings) < 2 {
		t.Errorf("status %q, %q", s.Code, s.Warnings)
	}
}

// A disk that fails at the start keeps sessions away, not the agent, whose status says why.
func TestAnAgentWhoseStartCannotBeWrittenSaysSo(t *testing.T) {
	t.Parallel()
	k := newTeam(t, openPolicy)
	a := k.agent()
	if err := a.spool.Close(); err != nil {
		t.Fatal(err)
	}
	a.started.owe()
	if err := a.recordStarted(); err == nil {
		t.Fatal("written")
	}
	k.askFor(a, "ann", nil).wantRefusal(refusal.Unavailable)
	if s := a.status(time.Now()); s.Code == "" || !strings.Contains(strings.Join(s.Warnings, "\n"), "until this agent has written that it has started") {
		t.Errorf("status %q, %q", s.Code, s.Warnings)
	}
}

// N9: an agent that is started with a full spool connects, gets rid of it, says that it
// has started, and takes sessions again. Nobody else could empty it.
func TestN9AgentStartedWithAFullSpoolComesBack(t *testing.T) {
	t.Parallel()
	s := serve(t)
	dir := filepath.Join(t.TempDir(), "agent")
	if err := Join(t.Context(), dir, s.joinString(1), JoinOptions{Name: "web"}); err != nil {
		t.Fatal(err)
	}
	a := s.open(dir)
	fillSpool(t, a)
	last, _ := a.spool.Head()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	defer a.Close()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("agent: %v", err)
		}
	}()
	until(t, "its start to be written", func() bool {
		a.started.mu.Lock()
		defer a.started.mu.Unlock()
		head, _ := a.spool.Head()
		return !a.started.owed && head > last
	})
	until(t, "room for a session", func() bool { return a.spool.Room(entry.SessionAccept, key.ID{}) == nil })
	if out, err := s.exec(a, "echo", "hello"); err != nil || out != "hello\n" {
		t.Errorf("%q, %v", out, err)
	}
}

// N9: the server takes a start for the end of all sessions that came before it, so one
// that had to wait for room is written before the first session.
func TestN9TheStartIsWrittenBeforeAnySession(t *testing.T) {
	t.Parallel()
	a := newTeam(t, openPolicy).agent()
	fillSpool(t, a)
	last, _ := a.spool.Head()
	a.started.owe()
	for _, typ := range []entry.EventType{entry.SessionAccept, entry.AgentStop} {
		if err := a.record(entry.Entry{Type: typ}); refusal.Of(err) != refusal.AuditFull {
			t.Errorf("%s: %v", typ, err)
		}
	}
	a.spool.LimitForTest(spool.MaxBytes)
	if err := a.record(entry.Entry{Type: entry.SessionAccept}); err != nil {
		t.Fatal(err)
	}
	var got []entry.EventType
	for _, s := range must(a.spool.Pending(last, 9)) {
		got = append(got, entry.Peek(s).Type)
	}
	if want := []entry.EventType{entry.SpoolGap, entry.AgentStart, entry.SessionAccept}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// N9: batches do not wait for the answers to those before them, so that a server far away
// takes as much as one nearby; and what has no proof is sent again, however much is said
// to be there meanwhile.
func TestN9SeveralBatchesAreUnderWay(t *testing.T) {
	t.Parallel()
	var d delivery
	begun := time.Now()
	if _, waits := d.patience(begun); waits {
		t.Error("waits for nothing")
	}
	for i := range uint64(window) {
		if after, n := d.next(); after != i*16 || n != int(i) {
			t.Fatalf("batch %d begins behind %d, beside %d", i, after, n)
		}
		d.sending((i+1)*16, begun)
	}
	d.proved(16, begun.Add(time.Second))
	if after, n := d.next(); after != window*16 || n != window-1 {
		t.Errorf("after one proof: behind %d, beside %d", after, n)
	}
	if d.claim(15) {
		t.Error("a server that lacks them has a batch")
	}
	if !d.claim(48) {
		t.Error("a server that claims two batches has none")
	}
	if after, n := d.next(); after != window*16 || n != 1 {
		t.Errorf("after a claim: behind %d, beside %d", after, n)
	}
	d.sending(80, begun.Add(2*time.Second))
	if !d.claim(80) {
		t.Error("a server that claims all has nothing")
	}
	if left, waits := d.patience(begun.Add(ackLimit)); !waits || left != time.Second {
		t.Errorf("%v, %s after the last proof and %s", waits, ackLimit-time.Second, left)
	}
	d.begin()
	if after, n := d.next(); after != 0 || n != 0 {
		t.Errorf("sent again behind %d, beside %d", after, n)
	}
}
