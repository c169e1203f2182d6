package roster_test

import (
	"slices"
	"testing"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/roster"
)

func forgeSigned[P statement.Payload](t tb, by statement.Signer, p P) statement.Signed {
	t.Helper()
	s, err := statement.Sign(by, p)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestG2TooFewSignatures(t *testing.T) {
	m := found(t, 0, 3, 2)
	r := roster.Next(m.state, renew)
	m.wantRefused(t, "one of two", m.sign(r, 1), refusal.NotEnoughSignatures)
	mustApply(t, m.state, m.sign(r, 2))
	mustApply(t, m.state, m.sign(r, 3))
	mustApply(t, m.state, signWith(t, r, m.owners[2], m.owners[0]))
}

func TestG2DuplicateSigner(t *testing.T) {
	m := found(t, 0, 3, 2)
	u := m.sign(roster.Next(m.state, renew), 1)
	_, err := roster.Cosign(m.owners[0], u)
	wantCode(t, "cosigning twice", err, refusal.NotEnoughSignatures)
	own, err := statement.Cosign(m.owners[0], u.Statement)
	if err != nil {
		t.Fatal(err)
	}
	twice := u
	twice.Cosignatures = []statement.Cosignature{own}
	m.wantRefused(t, "the signer again as cosigner", twice, refusal.NotEnoughSignatures)
	second, _ := statement.Cosign(m.owners[1], u.Statement)
	twice.Cosignatures = []statement.Cosignature{second, second}
	m.wantRefused(t, "one cosigner twice", twice, refusal.NotEnoughSignatures)
}

func TestG2SignerOfTheNewSetOnly(t *testing.T) {
	m := found(t, 0, 1, 1)
	thief := private[key.Owner](t, 60)
	r := roster.Next(m.state, func(r *roster.Roster) { renew(r); r.Owners = []key.Public[key.Owner]{thief.Public()} })
	m.wantRefused(t, "new owner alone", signWith(t, r, thief), refusal.NotEnoughSignatures)
	m.wantRefused(t, "old owner alone", m.sign(r, 1), refusal.NotEnoughSignatures)
	mustApply(t, m.state, signWith(t, r, m.owners[0], thief))
	mustApply(t, m.state, signWith(t, r, thief, m.owners[0]))
}

func TestG2ThresholdChangeNeedsTheNewThreshold(t *testing.T) {
	m := found(t, 0, 3, 1)
	r := roster.Next(m.state, func(r *roster.Roster) { renew(r); r.Threshold = 3 })
	m.wantRefused(t, "two of three", m.sign(r, 2), refusal.NotEnoughSignatures)
	m.state = mustApply(t, m.state, m.sign(r, 3))
	r = roster.Next(m.state, func(r *roster.Roster) { renew(r); r.Threshold = 1 })
	m.wantRefused(t, "lowering it alone", m.sign(r, 1), refusal.NotEnoughSignatures)
	mustApply(t, m.state, m.sign(r, 3))
}

func TestG2StrangersCosignature(t *testing.T) {
	m := found(t, 0, 2, 1)
	u := m.next(m.state, renew)
	stranger, _ := statement.Cosign(private[key.Owner](t, 70), u.Statement)
	u.Cosignatures = append(u.Cosignatures, stranger)
	m.wantRefused(t, "beside enough good ones", u, refusal.NotEnoughSignatures)
}

func TestG2WrongCosignatureSpoilsTheUpdate(t *testing.T) {
	m := found(t, 0, 3, 2)
	u := m.sign(roster.Next(m.state, renew), 2)
	old, _ := statement.Cosign(m.owners[2], m.first.Statement)
	u.Cosignatures = append(u.Cosignatures, old)
	m.wantRefused(t, "signature of another version", u, refusal.BadSignature)
	u.Cosignatures = make([]statement.Cosignature, roster.MaxCosignatures+1)
	m.wantRefused(t, "a flood of them", u, refusal.TooMany)
}

func TestG13OtherRolesDoNotSignRosters(t *testing.T) {
	m := found(t, 0, 1, 1)
	r := roster.Next(m.state, func(r *roster.Roster) {
		renew(r)
		r.Operators = append(r.Operators, operator(t, 9, "mallory", 5))
	})
	for what, by := range map[string]statement.Signer{
		"enroller": private[key.Enroller](t, 1),
		"operator": private[key.Operator](t, carol),
		"server":   private[key.Grant](t, 1),
		"audit":    private[key.Audit](t, 1),
	} {
		u := m.first
		u.Statement = forgeSigned(t, by, r)
		m.wantRefused(t, what, u, refusal.WrongRole)
		u = m.sign(r, 1)
		c, _ := statement.Cosign(by, u.Statement)
		u.Cosignatures = append(u.Cosignatures, c)
		m.wantRefused(t, what+" as cosigner", u, refusal.WrongRole)
	}
}

func TestOwnerHandOverByRecoveryKey(t *testing.T) {
	m := found(t, 0, 2, 1) // owner and recovery key
	lost, recovery, fresh := m.owners[0], m.owners[1], private[key.Owner](t, 80)
	r := roster.Next(m.state, func(r *roster.Roster) {
		renew(r)
		r.Revoke(lost.ID())
		r.Owners = append(r.Owners, fresh.Public())
	})
	if slices.Contains(r.Owners, lost.Public()) {
		t.Fatal("the revoked key is still an owner")
	}
	m.state = mustApply(t, m.state, signWith(t, r, recovery))
	m.wantRefused(t, "the lost key", signWith(t, roster.Next(m.state, renew), lost), refusal.NotEnoughSignatures)
	m.state = mustApply(t, m.state, signWith(t, roster.Next(m.state, renew), fresh))
	if _, err := m.state.FindOwner(fresh.ID()); err != nil {
		t.Error(err)
	}
	_, err := m.state.FindOwner(lost.ID())
	wantCode(t, "finding the lost key", err, refusal.UnknownKey)
}

func TestOrderOfOwnersIsNoChange(t *testing.T) {
	m := found(t, 0, 3, 1)
	r := roster.Next(m.state, func(r *roster.Roster) { renew(r); slices.Reverse(r.Owners) })
	mustApply(t, m.state, m.sign(r, 1))
}

func TestMissingCountsDownToComplete(t *testing.T) {
	m := found(t, 0, 3, 2)
	fresh := private[key.Owner](t, 81)
	r := roster.Next(m.state, func(r *roster.Roster) {
		renew(r)
		r.Owners, r.Threshold = append(r.Owners, fresh.Public()), 3
	})
	u := m.sign(r, 1)
	short, who, err := m.state.Missing(u)
	if err != nil || short != 2 || len(who) != 3 {
		t.Fatalf("first signature: %d short, %d may sign, %v; want 2, 3", short, len(who), err)
	}
	for i, by := range []key.Private[key.Owner]{m.owners[1], fresh} {
		if u, err = roster.Cosign(by, u); err != nil {
			t.Fatal(err)
		}
		if short, _, _ = m.state.Missing(u); short != 1-i {
			t.Errorf("after cosignature %d: %d short, want %d", i+1, short, 1-i)
		}
	}
	if _, who, _ = m.state.Missing(u); len(who) != 0 {
		t.Errorf("complete, but %d may sign", len(who))
	}
	mustApply(t, m.state, u)
	_, _, err = m.state.Missing(m.state.Chain()[0])
	if err != nil {
		t.Errorf("newest version itself: %v", err)
	}
}

func TestPreviewShowsWhatToCosign(t *testing.T) {
	m := found(t, 0, 3, 3)
	u := m.sign(roster.Next(m.state, func(r *roster.Roster) { renew(r); r.MinVersion = "1.2.3" }), 1)
	r, err := m.state.Preview(u)
	if err != nil || r.MinVersion != "1.2.3" {
		t.Errorf("got %q, %v", r.MinVersion, err)
	}
	_, err = m.state.Preview(m.first)
	wantCode(t, "a version that is there already", err, refusal.Superseded)
	overtaken := m.sign(roster.Next(m.state, renew), 1)
	m.grow(renew)
	_, err = m.state.Preview(overtaken)
	wantCode(t, "another version 2 was first", err, refusal.Superseded)
	m.grow(renew)
	_, err = m.state.Preview(overtaken)
	wantCode(t, "two versions later", err, refusal.Superseded)
	forged := m.first
	forged.Statement = forgeSigned(t, private[key.Owner](t, 90), roster.Next(m.state, renew))
	_, err = m.state.Preview(forged)
	wantCode(t, "by a stranger", err, refusal.NotEnoughSignatures)
	_, err = roster.Cosign(m.owners[1], wire.RosterUpdate{})
	wantCode(t, "cosigning no statement", err, refusal.BadStatement)
}

// A file that collects signatures comes from somewhere: one that claims a
// signature which does not hold must not look complete.
func TestMissingCountsOnlySignaturesThatHold(t *testing.T) {
	m := found(t, 0, 3, 2)
	u := m.sign(roster.Next(m.state, renew), 1)
	old, _ := statement.Cosign(m.owners[1], m.first.Statement)
	u.Cosignatures = []statement.Cosignature{old}
	_, _, err := m.state.Missing(u)
	wantCode(t, "a signature of another version", err, refusal.BadSignature)
	good, _ := statement.Cosign(m.owners[1], u.Statement)
	u.Cosignatures = []statement.Cosignature{good, good}
	_, _, err = m.state.Missing(u)
	wantCode(t, "one signer twice", err, refusal.NotEnoughSignatures)
}

func TestMissingCountsBothSetsOfOwners(t *testing.T) {
	m := found(t, 0, 3, 2)
	a, b := private[key.Owner](t, 82), private[key.Owner](t, 83)
	r := roster.Next(m.state, func(r *roster.Roster) {
		renew(r)
		r.Owners, r.Threshold = []key.Public[key.Owner]{a.Public(), b.Public()}, 2
	})
	u := m.sign(r, 1)
	for want, by := range []key.Private[key.Owner]{{}, b, a, m.owners[2]} {
		if want > 0 {
			var err error
			if u, err = roster.Cosign(by, u); err != nil {
				t.Fatal(err)
			}
		}
		if short, _, err := m.state.Missing(u); err != nil || short != 3-want {
			t.Errorf("with %d cosignatures: %d short, %v", want, short, err)
		}
	}
	mustApply(t, m.state, u)
}

// An owner of one set only is not named while one of both would do.
func TestMissingNamesWhoseSignatureHelps(t *testing.T) {
	m := found(t, 0, 3, 2)
	fresh := private[key.Owner](t, 84)
	u := m.sign(roster.Next(m.state, func(r *roster.Roster) { renew(r); r.Owners = append(r.Owners[:2], fresh.Public()) }), 1)
	if short, who, err := m.state.Missing(u); err != nil || short != 1 || !slices.Equal(who, []key.ID{m.owners[1].ID()}) {
		t.Errorf("%d short, %v, %v", short, who, err)
	}
	u, err := roster.Cosign(m.owners[2], u)
	if err != nil {
		t.Fatal(err)
	}
	if short, who, err := m.state.Missing(u); err != nil || short != 1 || !slices.Equal(who, []key.ID{m.owners[1].ID(), fresh.ID()}) {
		t.Errorf("with the owner who leaves: %d short, %v, %v", short, who, err)
	}
}
