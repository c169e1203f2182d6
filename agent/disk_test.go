//go:build linux

package agent

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// smallDisk returns a folder on a disk that can be filled: a tmpfs for root, for
// others a folder whose write permission goes.
func smallDisk(t *testing.T) (dir string, fill, free func()) {
	t.Helper()
	dir = t.TempDir()
	if os.Geteuid() != 0 {
		set := func(mode os.FileMode) func() {
			return func() {
				if err := os.Chmod(dir, mode); err != nil {
					t.Fatal(err)
				}
			}
		}
		t.Cleanup(set(0o700))
		return dir, set(0o500), set(0o700)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=0700"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("mounting a tmpfs: %v: run the test as root of a machine, or as another user", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	fill = func() {
		f := must(os.Create(ballast))
		defer f.Close()
		for err := error(nil); err == nil; {
			_, err = f.Write(make([]byte, 4096))
		}
	}
	return dir, fill, func() {
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	}
}

// A disk that is full keeps nobody's key in use.
func TestG6FullDiskDelaysNoRevocation(t *testing.T) {
	t.Parallel()
	dir, fill, free := smallDisk(t)
	k := newTeam(t, openPolicy)
	k.startRelay()
	a := k.open(k.joinIn(dir))
	t.Cleanup(func() { stop(a) })
	ch, pid := sleeper(k.askFor(a, "eve", sleep))
	waiting := k.askFor(a, "ann", sleep)
	waiting.wantAccept()
	fill()
	a.applyNews(wire.RosterNews{Updates: []wire.RosterUpdate{k.next(func(r *roster.Roster) { r.Revoke(k.members["eve"].ID()) })}})
	if _, err := ch.Wait(); refusal.Of(err) != refusal.KeyRevoked {
		t.Errorf("the operator learns %v", err)
	}
	until(t, "the program to die", func() bool { return !alive(pid) })
	k.askFor(a, "ann", nil).wantRefusal(refusal.RosterNotSaved)
	for _, s := range a.sessions.all() { // what was accepted before gets no keys either
		if _, err := a.release(s.question, waiting.request.IssuedAt.Time()); refusal.Of(err) != refusal.RosterNotSaved {
			t.Errorf("a session of before: %v", err)
		}
	}
	if s := a.status(waiting.request.IssuedAt.Time()); s.Code != refusal.RosterNotSaved || len(s.Warnings) == 0 || s.RosterVersion != 2 {
		t.Errorf("status: %+v", s)
	}
	free()
	a.saveTrust() // as it does every few seconds
	k.askFor(a, "eve", nil).wantRefusal(refusal.KeyRevoked)
	k.askFor(a, "ann", nil).wantAccept()
	stop(a)
	again := k.open(dir)
	defer stop(again)
	if now, _ := again.keeper.Get(); now.Roster.Version() != 2 {
		t.Errorf("version %d is on the disk", now.Roster.Version())
	}
}
