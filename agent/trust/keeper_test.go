package trust

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // the test's own set-up
	}
	return v
}

// team makes rosters.
type team struct {
	owner key.Private[key.Owner]
	root  []byte
	state *roster.State
	text  []byte
}

func policyText(n string) []byte { return []byte("version = 1\nmode = \"enforce\"\n# " + n + "\n") }

func newTeam(t *testing.T) (*team, *Trust) {
	t.Helper()
	k := &team{owner: must(key.Generate[key.Owner]()), text: policyText("first")}
	root := roster.Root{Team: wire.NewTeamID(), Name: "team", Owners: []key.Public[key.Owner]{k.owner.Public()}, Threshold: 1}
	signed := must(roster.SignRoot(k.owner, root))
	v1 := must(roster.Sign(k.owner, roster.First(root, signed.Hash(), func(r *roster.Roster) {
		r.Renew(time.Now(), 24*time.Hour)
		r.PolicyHash = must(policy.Parse(k.text)).Hash()
	})))
	k.root = signed
	first, text, err := Found(signed, signed.Hash(), wire.RosterNews{Updates: []wire.RosterUpdate{v1}, Policy: k.text}, time.Now())
	if err != nil || !bytes.Equal(text, k.text) || first.Rules == nil {
		t.Fatalf("%q, %v", text, err)
	}
	k.state = first.Roster
	return k, first
}

func (k *team) next(life time.Duration) wire.RosterUpdate {
	u := must(roster.Sign(k.owner, roster.Next(k.state, func(r *roster.Roster) {
		r.Renew(time.Now(), life)
		r.PolicyHash = must(policy.Parse(k.text)).Hash()
	})))
	k.state = must(k.state.Apply(u, time.Now()))
	return u
}

func (k *team) keeper(t *testing.T, first *Trust) (*Keeper, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if err := errors.Join(keyfile.CreateDir(dir), Create(dir, first, k.text)); err != nil {
		t.Fatal(err)
	}
	return must(Open(dir, k.state.Fingerprint())), dir
}

// A folder that has gone away stands for a disk that takes nothing.
func away(t *testing.T, dir string) (back func()) {
	t.Helper()
	if err := os.Rename(dir, dir+"-away"); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Rename(dir+"-away", dir); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNewsCountBeforeTheyAreWrittenButGiveNothing(t *testing.T) {
	k, first := newTeam(t)
	keeper, dir := k.keeper(t, first)
	_, changes := keeper.Get()
	back := away(t, dir)
	now := time.Now()
	k.text = policyText("second")
	if changed, err := keeper.Apply(wire.RosterNews{Updates: []wire.RosterUpdate{k.next(24 * time.Hour)}, Policy: k.text}, now); !changed || err != nil {
		t.Fatalf("%v, %v", changed, err)
	}
	if _, open := <-changes; open {
		t.Error("nobody was woken")
	}
	if got, _ := keeper.Get(); got.Roster.Version() != 2 {
		t.Errorf("version %d is in force", got.Roster.Version())
	}
	if err := keeper.Save(); refusal.Of(err) != refusal.RosterNotSaved {
		t.Errorf("saving nowhere: %v", err)
	}
	if _, err := keeper.Usable(now); refusal.Of(err) != refusal.RosterNotSaved {
		t.Errorf("usable: %v", err)
	}
	// What comes meanwhile must not lose the policy that is still owed.
	if changed, err := keeper.Apply(wire.RosterNews{Updates: []wire.RosterUpdate{k.next(23 * time.Hour)}}, now); !changed || err != nil {
		t.Fatalf("%v, %v", changed, err)
	}
	_ = keeper.Save()
	back()
	for range 2 {
		if err := keeper.Save(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := keeper.Usable(now); err != nil {
		t.Errorf("usable after saving: %v", err)
	}
	again, _ := must(Open(dir, k.state.Fingerprint())).Get()
	if again.Roster.Version() != 3 || again.Rules == nil || again.Rules.Hash() != k.state.PolicyHash() {
		t.Errorf("on the disk: version %d, rules %v", again.Roster.Version(), again.Rules != nil)
	}
}

func TestG1EvidenceOfAForkWaitsForTheDisk(t *testing.T) {
	k, first := newTeam(t)
	keeper, dir := k.keeper(t, first)
	before := k.state
	now := time.Now()
	if _, err := keeper.Apply(wire.RosterNews{Updates: []wire.RosterUpdate{k.next(24 * time.Hour)}}, now); err != nil {
		t.Fatal(err)
	}
	k.state = before
	back := away(t, dir)
	if _, err := keeper.Apply(wire.RosterNews{Updates: []wire.RosterUpdate{k.next(time.Hour)}}, now); refusal.Of(err) != refusal.Fork {
		t.Errorf("another version 2: %v", err)
	}
	if err := keeper.Save(); refusal.Of(err) != refusal.RosterNotSaved || !keeper.Frozen() {
		t.Errorf("saving nowhere: %v, frozen %v", err, keeper.Frozen())
	}
	back()
	if err := keeper.Save(); err != nil {
		t.Fatal(err)
	}
	again := must(Open(dir, k.state.Fingerprint()))
	if _, err := again.Usable(now); refusal.Of(err) != refusal.Fork {
		t.Errorf("after a restart: %v", err)
	}
	if data, err := keyfile.ReadPrivate(filepath.Join(dir, forkFile), 1<<20); err != nil || bytes.Count(data, []byte("statement")) != 2 {
		t.Errorf("evidence %s, %v", data, err)
	}
}

func TestRosterWithoutItsPolicyDenies(t *testing.T) {
	k, first := newTeam(t)
	keeper, dir := k.keeper(t, first)
	now := time.Now()
	k.text = policyText("second")
	u := k.next(24 * time.Hour)
	for _, text := range [][]byte{nil, policyText("another"), []byte("no policy")} {
		_, err := keeper.Apply(wire.RosterNews{Updates: []wire.RosterUpdate{u}, Policy: text}, now)
		if err = errors.Join(err, keeper.Save()); err != nil {
			t.Fatal(err)
		}
		if _, err := keeper.Usable(now); refusal.Of(err) != refusal.PolicyMismatch {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := must(Open(dir, k.state.Fingerprint())).Usable(now); refusal.Of(err) != refusal.PolicyMismatch {
		t.Errorf("after a restart: %v", err)
	}
	if changed, err := keeper.Apply(wire.RosterNews{Policy: k.text}, now); !changed || err != nil {
		t.Errorf("the text alone: %v, %v", changed, err)
	}
	if _, err := keeper.Usable(now); err != nil {
		t.Errorf("with its policy: %v", err)
	}
}

func TestG4ClockSurvivesARestart(t *testing.T) {
	k, first := newTeam(t)
	keeper, dir := k.keeper(t, first)
	later := time.Now().Add(time.Hour)
	if err := keeper.Remember(later); err != nil {
		t.Fatal(err)
	}
	again := must(Open(dir, k.state.Fingerprint()))
	if _, err := again.Usable(later.Add(-11 * time.Minute)); refusal.Of(err) != refusal.BadTime {
		t.Errorf("a clock that went back: %v", err)
	}
	if _, err := again.Usable(later.Add(-9 * time.Minute)); err != nil {
		t.Errorf("a clock that went back a little: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, clockFile), []byte("noon"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, k.state.Fingerprint()); refusal.Of(err) != refusal.BadStatement {
		t.Errorf("a clock file that holds no time: %v", err)
	}
}

func TestFoundNeedsTheRightRoot(t *testing.T) {
	k, _ := newTeam(t)
	other, _ := newTeam(t)
	if _, _, err := Found(k.root, k.state.Fingerprint(), wire.RosterNews{}, time.Now()); refusal.Of(err) != refusal.BadChain {
		t.Errorf("no roster: %v", err)
	}
	if _, _, err := Found(other.root, k.state.Fingerprint(), wire.RosterNews{Updates: k.state.Chain()}, time.Now()); err == nil {
		t.Error("another team's root was taken")
	}
	if _, _, err := Found(k.root, k.state.Fingerprint(), wire.RosterNews{Updates: other.state.Chain()}, time.Now()); err == nil {
		t.Error("another team's roster was taken")
	}
}

func TestRemoveLeavesNothing(t *testing.T) {
	k, first := newTeam(t)
	_, dir := k.keeper(t, first)
	for range 2 {
		if err := Remove(dir); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := Open(dir, k.state.Fingerprint()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening nothing: %v", err)
	}
}
