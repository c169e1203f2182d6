//go:build linux

package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
)

func TestG1RostersAreAppliedInOrderOnly(t *testing.T) {
	k := newTeam(t, openPolicy)
	dir := k.join()
	a := k.open(dir)
	v1 := k.state
	u2 := k.next(func(*roster.Roster) {})
	u3 := k.next(func(*roster.Roster) {})
	now := time.Now()

	if _, err := a.keeper.Apply(wire.RosterNews{Updates: []wire.RosterUpdate{u3}}, now); refusal.Of(err) != refusal.Gap {
		t.Errorf("a skipped version: %v", err)
	}
	if changed, err := a.keeper.Apply(wire.RosterNews{Updates: []wire.RosterUpdate{u2, u3}}, now); !changed || err != nil {
		t.Fatalf("applying: %v, %v", changed, err)
	}
	other := must(roster.Sign(k.owner, roster.Next(v1, func(r *roster.Roster) { r.Renew(now, time.Hour) })))
	if _, err := a.keeper.Apply(wire.RosterNews{Updates: []wire.RosterUpdate{other}}, now); refusal.Of(err) != refusal.Rollback {
		t.Errorf("an older version: %v", err)
	}
	q := k.askFor(a, "ann", nil)
	q.wantAccept()

	v2 := must(v1.Apply(u2, now))
	fork := must(roster.Sign(k.owner, roster.Next(v2, func(r *roster.Roster) { r.Renew(now, time.Hour) })))
	if _, err := a.keeper.Apply(wire.RosterNews{Updates: []wire.RosterUpdate{fork}}, now); refusal.Of(err) != refusal.Fork {
		t.Errorf("a fork: %v", err)
	}
	k.askFor(a, "ann", nil).wantRefusal(refusal.Fork)
	if err := a.keeper.Save(); err != nil {
		t.Fatal(err)
	}
	stop(a)

	again := k.open(dir) // the evidence outlives the process
	defer stop(again)
	if got, _ := again.keeper.Get(); got.Roster.Version() != 3 || got.Roster.Hash() != k.state.Hash() {
		t.Errorf("version %d is on the disk", got.Roster.Version())
	}
	k.askFor(again, "ann", nil).wantRefusal(refusal.Fork)
	if again.status(now).Code != refusal.Fork {
		t.Error("status does not say so")
	}
}

func TestG4ClockAndExpiry(t *testing.T) {
	k := newTeam(t, openPolicy)
	a := k.agent()
	now := time.Now()
	if _, err := a.keeper.Usable(now); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		at   time.Time
		want refusal.Code
	}{
		"back a year": {now.AddDate(-1, 0, 0), refusal.BadTime}, "forward a year": {now.AddDate(1, 0, 0), refusal.RosterExpired},
		"back eleven minutes": {now.Add(-11 * time.Minute), refusal.BadTime}, "right again": {now.Add(time.Second), ""},
	} {
		if _, err := a.keeper.Usable(c.at); refusal.Of(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestG4GraceOfThePolicy(t *testing.T) {
	k := newTeam(t, "version = 1\nmode = \"enforce\"\nroster_grace = \"12h\"\n"+openPolicy[len("version = 1\nmode = \"enforce\"\n"):])
	a := k.agent()
	end := k.state.ExpiresAt()
	if _, err := a.keeper.Usable(end.Add(11 * time.Hour)); err != nil {
		t.Errorf("within the grace: %v", err)
	}
	if _, err := a.keeper.Usable(end.Add(13 * time.Hour)); refusal.Of(err) != refusal.RosterExpired {
		t.Errorf("after the grace: %v", err)
	}
	s := a.status(end.Add(-time.Hour))
	if len(s.Warnings) != 1 || s.GraceEnds != wire.At(end.Add(12*time.Hour)) {
		t.Errorf("status: %+v", s)
	}
}

func TestG5AgentBehindTheOperator(t *testing.T) {
	k := newTeam(t, openPolicy)
	a := k.agent()
	u := k.next(func(*roster.Roster) {})
	q := k.askFor(a, "ann", nil) // names version 2
	q.wantRefusal(refusal.RosterBehind)
	a.applyNews(wire.RosterNews{Updates: []wire.RosterUpdate{u}})
	q.wantAccept() // the same request: nothing of it was used up
}

func TestOperatorBehindTheAgentIsJudgedByTheNewest(t *testing.T) {
	k := newTeam(t, openPolicy)
	a := k.agent()
	old := *k
	a.applyNews(wire.RosterNews{Updates: []wire.RosterUpdate{k.next(func(r *roster.Roster) { r.Revoke(k.members["eve"].ID()) })}})
	old.askFor(a, "ann", nil).wantAccept()
	old.askFor(a, "eve", nil).wantRefusal(refusal.KeyRevoked)
}

func TestO1AgentThatIsTooOldServesAdminsOnly(t *testing.T) {
	k := newTeam(t, openPolicy)
	a := k.agent()
	a.applyNews(wire.RosterNews{Updates: []wire.RosterUpdate{k.next(func(r *roster.Roster) { r.MinVersion = "1.4.2" })}})
	for version, want := range map[string]refusal.Code{
		"v1.4.1": refusal.ProgramTooOld, "v1.4.2-rc.1": refusal.ProgramTooOld, "(devel)": refusal.ProgramTooOld, "": refusal.ProgramTooOld,
		"v1.4.2": "", "v1.10.0": "",
	} {
		a.version = version
		a.openJudge()
		if s := a.status(time.Now()); s.Code != want || strings.Contains(strings.Join(s.Warnings, " "), "only admins") != (want != "") {
			t.Errorf("%q: status %+v", version, s)
		}
		_, r := k.askFor(a, "ann", nil).send()
		if r == nil && want != "" || r != nil && r.Code != want {
			t.Errorf("%q: %+v, want %q", version, r, want)
		}
		k.askFor(a, "adm", nil).wantAccept()
	}
	a.version = "v1.4.1"
	k.askFor(a, "vic", nil).wantRefusal(refusal.WrongRole)
}

func TestSameVersionOtherHashIsRefusedForThisSessionOnly(t *testing.T) {
	k := newTeam(t, openPolicy)
	a := k.agent()
	k.askFor(a, "ann", func(r *wire.Request) { r.RosterHash = key.Hash{7} }).wantRefusal(refusal.Fork)
	k.askFor(a, "ann", func(r *wire.Request) { r.PolicyHash = key.Hash{7} }).wantRefusal(refusal.PolicyMismatch)
	k.askFor(a, "ann", nil).wantAccept()
}

// What lies in the way of cleaning up must not keep a newer roster, which may
// revoke, from being in force.
func TestRosterCountsAlthoughAnOldPolicyStays(t *testing.T) {
	k := newTeam(t, openPolicy)
	a := k.agent()
	if err := os.MkdirAll(filepath.Join(a.dir, "policy-old", "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	version := k.state.Version() + 1
	a.applyNews(k.setPolicy(openPolicy + "# changed\n"))
	if now, _ := a.keeper.Get(); now.Roster.Version() != version {
		t.Errorf("version %d in force, want %d", now.Roster.Version(), version)
	}
}

func TestMissingPolicyTextDenies(t *testing.T) {
	k := newTeam(t, openPolicy)
	a := k.agent()
	news := k.setPolicy(openPolicy + "# changed\n")
	text := news.Policy
	news.Policy = nil // the server keeps the text back
	a.applyNews(news)
	k.askFor(a, "ann", nil).wantRefusal(refusal.PolicyMismatch)
	a.applyNews(wire.RosterNews{Updates: news.Updates, Policy: text})
	k.askFor(a, "ann", nil).wantAccept()
}
