//go:build linux

package agent

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/agent/gossip"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/witness"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/policy/approval"
)

// worked joins an agent, has it work twice, and returns its state folder as a backup
// that was made between the two has it.
func worked(t *testing.T, s *served) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "agent")
	if err := Join(t.Context(), dir, s.joinString(1), JoinOptions{Name: "web"}); err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "backup")
	for i := range 2 {
		a, stopAgent := s.start(dir)
		if _, err := s.exec(a, "true"); err != nil {
			t.Fatal(err)
		}
		until(t, "the session to end", func() bool { return a.sessions.count() == 0 })
		until(t, "the log to be delivered", func() bool { return len(must(a.spool.Pending(0, 1))) == 0 })
		stopAgent()
		if i == 0 {
			save(t, dir, backup)
		}
	}
	restore(t, dir, backup)
	return dir
}

// save copies a state folder.
func save(t *testing.T, dir, backup string) {
	t.Helper()
	if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
}

// restore puts a copy in the place of a state folder.
func restore(t *testing.T, dir, backup string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(backup, dir); err != nil {
		t.Fatal(err)
	}
	for _, f := range must(os.ReadDir(dir)) { // copied without who may read them
		if err := os.Chmod(filepath.Join(dir, f.Name()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
}

// wantForked waits until the agent says of itself that its log went back, and sees that
// it says nothing of the kind of the server.
func wantForked(t *testing.T, a *Agent) {
	t.Helper()
	until(t, "the agent to say so", func() bool {
		s := a.status(time.Now())
		return s.Forked && s.Code == refusal.AuditFork
	})
	if err := a.gossip.Err(); err != nil {
		t.Errorf("it accuses the server: %v", err)
	}
}

// A state folder out of a backup: whatever the agent writes there is none of the log's,
// and it learns that from the first entry on, which would else be taken for known.
func TestStateFolderThatWasSetBack(t *testing.T) {
	t.Parallel()
	s := serve(t)
	dir := worked(t, s)
	a, _ := s.start(dir)
	wantForked(t, a)
	until(t, "the server to refuse what it writes", a.refusedForGood)
	until(t, "the status", func() bool {
		st, err := ReadStatus(dir)
		return err == nil && st.Forked && st.Code == refusal.AuditFork
	})
	wantForked(t, a)
}

// The ledger is set back with its disk, so an approval that was used since is in no
// record of the machine's. Who has the server's help, and the one-time key of the first
// run yet, gets no second one all the same.
func TestE3ApprovalUsedBeforeTheDiskWasSetBackIsNotUsedAgain(t *testing.T) {
	t.Parallel()
	k := newTeam(t, openPolicy)
	k.startRelay()
	dir, backup := k.join("gated"), filepath.Join(t.TempDir(), "backup")
	save(t, dir, backup)
	a := k.open(dir)
	q := k.askFor(a, "ann", argv("echo", "once"))
	q.approve("bob", approval.Approve)
	if out, _, _, err := q.exec(""); err != nil || out != "once\n" {
		t.Fatalf("%q, %v", out, err)
	}
	stop(a)
	restore(t, dir, backup)
	again := k.open(dir)
	defer stop(again)
	q.agent = again
	q.wantRefusal(refusal.ApprovalUsed)
	if n := again.sessions.count(); n != 0 {
		t.Errorf("%d sessions", n)
	}
	next := k.askFor(again, "ann", argv("echo", "twice"))
	next.approve("bob", approval.Approve)
	if out, _, _, err := next.exec(""); err != nil || out != "twice\n" {
		t.Errorf("approved since: %q, %v", out, err)
	}
}

// A machine that goes on where a snapshot left it has nothing new to send: it learns from
// what the server claims, and takes what the server shows it meanwhile.
func TestMachineThatASnapshotSetBack(t *testing.T) {
	t.Parallel()
	s := serve(t)
	a := s.open(worked(t, s))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.keepConnected(ctx)
	}()
	defer a.Close()
	defer func() { cancel(); <-done }()
	wantForked(t, a)
	until(t, "its old entries to be proven", func() bool { return len(must(a.spool.Pending(0, 1))) == 0 })
	origin := checkpoint.Origin("main", s.state.Team())
	seen := func() int64 { return must(witness.Open(gossip.Path(a.dir, origin), origin)).Size() }
	before := seen()
	s.login("ann") // is an entry, and shown with the next heartbeat
	until(t, "the next checkpoint to be believed", func() bool { return seen() > before })
	wantForked(t, a)
	if err := a.record(entry.Entry{Type: entry.SessionRefuse}); err != nil {
		t.Fatal(err)
	}
	until(t, "the server to refuse what it writes", a.refusedForGood)
	wantForked(t, a)
}

// refusedForGood reports that the last connection ended as the next one will.
func (a *Agent) refusedForGood() bool {
	a.up.mu.Lock()
	defer a.up.mu.Unlock()
	return lasts(a.up.err)
}
