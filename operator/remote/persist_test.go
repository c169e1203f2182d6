package remote

import (
	"os"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/operator/account"
	"github.com/tucdesk/tucdesk/operator/teamtest"
)

// A master that went on with what it had read at its start would know no owner's
// change, and sign with a key that its person has replaced.
func TestMasterBelievesNothingOlderThanTheDisk(t *testing.T) {
	m := teamtest.NewTeam(t)
	m.Account(t)
	w := &warm{home: m.Home}
	defer w.close()
	first, err := w.take()
	if err != nil {
		t.Fatal(err)
	}
	w.give(first)
	if again, err := w.take(); err != nil || again.Account != first.Account {
		t.Errorf("opened anew although nothing has changed: %v", err)
	} else {
		w.give(again)
	}
	later := time.Now().Add(time.Second)
	if err := os.Chtimes(m.Home.Path(account.RosterFile), later, later); err != nil {
		t.Fatal(err)
	}
	changed, err := w.take()
	if err != nil || changed.Account == first.Account {
		t.Errorf("goes on with an old roster: %v", err)
	}
	w.give(changed)
	if err := os.Remove(m.Home.Path(account.TeamFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.take(); err == nil {
		t.Error("goes on in a team that was left")
	}
}
