package roster_test

import (
	"bytes"
	"math"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/roster"
)

func TestFoundThenApplyInOrder(t *testing.T) {
	m := found(t, 0, 2, 1)
	if m.state.Version() != 1 || m.state.Team() != m.root.Team || m.state.Fingerprint() != m.fingerprint {
		t.Fatalf("version %d, team %v, fingerprint %v", m.state.Version(), m.state.Team(), m.state.Fingerprint())
	}
	for v := uint64(2); v <= 5; v++ {
		before := m.state
		after := m.grow(renew)
		if after.Version() != v || before.Version() != v-1 {
			t.Fatalf("version %d after, %d before; want %d", after.Version(), before.Version(), v)
		}
		if got := after.Roster().Previous; got != before.Hash() {
			t.Fatalf("version %d links to %v, want %v", v, got, before.Hash())
		}
	}
	if got := len(m.state.Chain()); got != 5 {
		t.Errorf("chain of %d updates, want 5", got)
	}
}

func TestFoundRefusesAnotherRoot(t *testing.T) {
	m, other := found(t, 0, 1, 1), found(t, 10, 1, 1)
	_, err := roster.Found(other.signed, m.fingerprint, other.first)
	wantCode(t, "root of another team", err, refusal.BadChain)
	_, err = roster.Found(m.signed, key.Hash{}, m.first)
	wantCode(t, "no fingerprint pinned", err, refusal.BadChain)
	_, err = roster.Found(nil, m.fingerprint, m.first)
	wantCode(t, "no root", err, refusal.BadChain)
	_, err = roster.Found(nil, key.Hash{}, m.first)
	wantCode(t, "neither root nor fingerprint", err, refusal.BadChain)
	_, err = roster.Found(m.signed, m.fingerprint, other.first)
	wantCode(t, "version 1 of another team", err, refusal.WrongTeam)
	_, err = roster.Found(m.signed, m.fingerprint, m.next(m.state, renew))
	wantCode(t, "version 2 first", err, refusal.Gap)
}

func TestRootSignedByAStrangerIsRefused(t *testing.T) {
	m := found(t, 0, 1, 1)
	_, err := roster.SignRoot(private[key.Owner](t, 99), m.root)
	wantCode(t, "signing", err, refusal.NotEnoughSignatures)
	forged := forgeSigned(t, private[key.Owner](t, 99), m.root)
	if forged.Hash() != m.fingerprint {
		t.Fatal("the hash covers the signature; the test below proves nothing")
	}
	_, err = roster.Found(forged, m.fingerprint, m.first)
	wantCode(t, "pinned content, foreign signature", err, refusal.NotEnoughSignatures)
}

func TestApplyingTheNewestVersionAgainChangesNothing(t *testing.T) {
	m := found(t, 0, 2, 1)
	u := m.next(m.state, renew)
	m.state = mustApply(t, m.state, u)
	again, err := m.state.Apply(u, now)
	if err != nil || again != m.state {
		t.Errorf("got %v, %v; want the same state", again, err)
	}
}

func TestG1OlderRosterIsRollback(t *testing.T) {
	m := found(t, 0, 2, 1)
	m.grow(renew)
	m.grow(renew)
	for _, old := range m.state.Chain()[:2] {
		m.wantRefused(t, "older version", old, refusal.Rollback)
	}
	zero := m.state.Roster()
	zero.Version = 0
	m.wantRefused(t, "version 0", forge(t, zero, m.owners[0]), refusal.Rollback)
}

func TestG1SameVersionOtherHashIsFork(t *testing.T) {
	m := found(t, 0, 3, 2)
	base := m.state
	m.grow(renew)
	other := m.sign(roster.Next(base, func(r *roster.Roster) { renew(r); r.Operators = r.Operators[:1] }), 2)
	m.wantRefused(t, "rightly signed", other, refusal.Fork)
	// One rogue owner of two needed must not be able to freeze every agent.
	other.Cosignatures = nil
	m.wantRefused(t, "signed by one of two", other, refusal.NotEnoughSignatures)
}

func TestG1ForkOfTheFirstVersion(t *testing.T) {
	m := found(t, 0, 2, 1)
	other := m.sign(roster.First(m.root, m.fingerprint, func(r *roster.Roster) { r.Renew(now, time.Hour) }), 1)
	m.wantRefused(t, "another version 1", other, refusal.Fork)
}

// A version is judged by the owners before it, also when it is offered again
// after they changed.
func TestG1ForkIsJudgedByTheOwnersOfThatTime(t *testing.T) {
	m := found(t, 0, 1, 1)
	base := m.state
	newcomer := private[key.Owner](t, 50)
	replaced := roster.Next(base, func(r *roster.Roster) { renew(r); r.Owners = []key.Public[key.Owner]{newcomer.Public()} })
	m.state = mustApply(t, base, signWith(t, replaced, m.owners[0], newcomer))
	m.wantRefused(t, "by the old owner", m.sign(roster.Next(base, renew), 1), refusal.Fork)
	alone := roster.Next(base, renew)
	m.wantRefused(t, "by the new owner", signWith(t, alone, newcomer), refusal.NotEnoughSignatures)
}

func TestG1SkippedVersionIsGap(t *testing.T) {
	m := found(t, 0, 2, 1)
	two := mustApply(t, m.state, m.next(m.state, renew))
	m.wantRefused(t, "version 3 after 1", m.next(two, renew), refusal.Gap)
	far := m.state.Roster()
	far.Version = math.MaxUint64
	m.wantRefused(t, "largest version", forge(t, far, m.owners[0]), refusal.Gap)
}

func TestG1WrongPreviousHashIsBadChain(t *testing.T) {
	m := found(t, 0, 2, 1)
	r := roster.Next(m.state, renew)
	r.Previous[0] ^= 1
	m.wantRefused(t, "altered link", m.sign(r, 1), refusal.BadChain)
	// Another branch, one version further: the server hides the fork itself.
	branch := mustApply(t, m.state, m.next(m.state, func(r *roster.Roster) { renew(r); r.Operators = nil }))
	m.grow(renew)
	m.wantRefused(t, "next version of another branch", m.next(branch, renew), refusal.BadChain)
}

func TestG3RosterOfAnotherTeam(t *testing.T) {
	m, other := found(t, 0, 2, 1), found(t, 10, 2, 1)
	m.wantRefused(t, "their version 2", other.next(other.state, renew), refusal.WrongTeam)
	r := roster.Next(m.state, renew)
	r.Team = other.root.Team
	m.wantRefused(t, "their team id, our owner", m.sign(r, 1), refusal.WrongTeam)
	r = roster.Next(other.state, renew)
	r.Team = m.root.Team
	m.wantRefused(t, "our team id, their owner", other.sign(r, 1), refusal.NotEnoughSignatures)
}

func TestG4ExpiredRosterAndClocks(t *testing.T) {
	m := found(t, 0, 1, 1)
	end := now.Add(roster.DefaultLifetime)
	for _, c := range []struct {
		what string
		at   time.Time
		want refusal.Code
	}{
		{"at once", now, ""},
		{"last millisecond", end.Add(-time.Millisecond), ""},
		{"at its end", end, refusal.RosterExpired},
		{"clock forward a year", now.AddDate(1, 0, 0), refusal.RosterExpired},
		{"clock back ten minutes", now.Add(-10 * time.Minute), ""},
		{"clock back a little more", now.Add(-10*time.Minute - time.Millisecond), refusal.BadTime},
		{"clock back a year", now.AddDate(-1, 0, 0), refusal.BadTime},
	} {
		if got := refusal.Of(m.state.Check(c.at)); got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}

func TestG4ClockGoingBackIsNotSane(t *testing.T) {
	if err := roster.Sane(time.Time{}, now); err != nil {
		t.Errorf("nothing seen yet: %v", err)
	}
	if err := roster.Sane(now, now.Add(-roster.MaxClockBack)); err != nil {
		t.Errorf("back by the allowance: %v", err)
	}
	wantCode(t, "back by more", roster.Sane(now, now.Add(-roster.MaxClockBack-time.Second)), refusal.BadTime)
}

func TestG4ClockJumpAheadDoesNotLockOutForAYear(t *testing.T) {
	m := found(t, 0, 1, 1)
	seen := m.state.Seen(time.Time{}, now)
	if !seen.Equal(now) {
		t.Fatalf("saw %v, want %v", seen, now)
	}
	if seen = m.state.Seen(seen, now.AddDate(1, 0, 0)); !seen.Equal(now) {
		t.Errorf("an expired roster's clock was remembered: %v", seen)
	}
	if seen = m.state.Seen(seen, now.Add(time.Hour)); !seen.Equal(now.Add(time.Hour)) {
		t.Errorf("saw %v, want an hour on", seen)
	}
	if again := m.state.Seen(seen, now); !again.Equal(seen) {
		t.Errorf("the memory went back to %v", again)
	}
	if err := roster.Sane(seen, now.Add(time.Hour)); err != nil {
		t.Errorf("clock set right after the jump: %v", err)
	}
}

func TestG4RosterFromTheFutureWaits(t *testing.T) {
	m := found(t, 0, 1, 1)
	u := m.next(m.state, func(r *roster.Roster) { r.Renew(now.Add(time.Hour), time.Hour) })
	_, err := m.state.Apply(u, now)
	wantCode(t, "issued in an hour", err, refusal.NotYetValid)
	if _, err := m.state.Apply(u, now.Add(50*time.Minute)); err != nil {
		t.Errorf("within the allowance: %v", err)
	}
}

func TestG4IssueTimesDoNotGoBack(t *testing.T) {
	m := found(t, 0, 1, 1)
	r := roster.Next(m.state, renew)
	r.IssuedAt = wire.At(now) - 1
	r.ExpiresAt = r.IssuedAt + 1000
	m.wantRefused(t, "issued before version 1", m.sign(r, 1), refusal.BadTime)
	// An owner whose clock runs behind can still renew.
	m.grow(func(r *roster.Roster) { r.Renew(now.Add(-time.Hour), time.Hour) })
	if got := m.state.IssuedAt(); !got.Equal(now) {
		t.Errorf("issued at %v, want %v", got, now)
	}
}

// News of a revocation must arrive although versions between have long expired.
func TestExpiredVersionsStillApply(t *testing.T) {
	m := found(t, 0, 1, 1)
	m.grow(func(r *roster.Roster) { r.Renew(now.Add(time.Hour), time.Second) })
	u := m.next(m.state, func(r *roster.Roster) { r.Renew(now.AddDate(1, 0, 0), time.Hour) })
	st, err := m.state.Apply(u, now.AddDate(1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Check(now.AddDate(1, 0, 0)); err != nil {
		t.Error(err)
	}
}

func TestStateIsNotChangedThroughWhatItReturns(t *testing.T) {
	m := found(t, 0, 2, 1)
	m.grow(renew)
	before := m.state.Encode()
	r := m.state.Roster()
	r.Operators[0].Role, r.Enrollers[0].Tags[0], r.Owners[0] = policy.Owner, "other", r.Owners[1]
	r.Servers[0].URL = "https://other"
	chain, root := m.state.Chain(), m.state.Root()
	chain[0] = wire.RosterUpdate{}
	clear(root)
	m.state.After(0)[0] = wire.RosterUpdate{}
	if !bytes.Equal(before, m.state.Encode()) {
		t.Error("the chain changed")
	}
	if got := m.state.Roster(); got.Operators[0].Role != policy.Operator || got.Enrollers[0].Tags[0] != "prod" || got.Owners[0] == got.Owners[1] {
		t.Error("the roster changed")
	}
}

func TestStateKeepsItsOwnCopyOfAnUpdate(t *testing.T) {
	m := found(t, 0, 2, 1)
	u := m.next(m.state, renew)
	m.state = mustApply(t, m.state, u)
	before := m.state.Encode()
	clear(u.Statement)
	if !bytes.Equal(before, m.state.Encode()) {
		t.Error("the caller's buffer is the state's")
	}
}

// Two states that grow from one must not write into each other's chain.
func TestBranchesOfOneStateAreIndependent(t *testing.T) {
	m := found(t, 0, 1, 1)
	m.grow(renew)
	m.grow(renew)
	left := mustApply(t, m.state, m.next(m.state, renew))
	before := left.Encode()
	mustApply(t, m.state, m.next(m.state, func(r *roster.Roster) { renew(r); r.Operators = nil }))
	if !bytes.Equal(before, left.Encode()) {
		t.Error("one branch changed the other")
	}
}

func TestAfterBringsSomebodyUpToDate(t *testing.T) {
	m := found(t, 0, 1, 1)
	behind := m.state
	for range 4 {
		m.grow(renew)
	}
	for _, u := range m.state.After(behind.Version()) {
		behind = mustApply(t, behind, u)
	}
	if behind.Hash() != m.state.Hash() {
		t.Error("not up to date")
	}
	for _, v := range []uint64{5, 6, math.MaxUint64} {
		if got := m.state.After(v); len(got) != 0 {
			t.Errorf("after %d: %d updates", v, len(got))
		}
	}
}
