package approval_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/policy/roster"
)

func TestApprovedByOneOtherPerson(t *testing.T) {
	f := gated(t, 1)
	s := f.decide(bob, approval.Approve)
	uses, err := f.check(s)
	if err != nil || len(uses) != 1 {
		t.Fatalf("%d uses, %v", len(uses), err)
	}
	u := uses[0]
	if u.Hash != s.Hash() || u.Approver != private[key.Operator](t, bob).ID() || u.Person != "bob" || u.ID == (wire.Nonce{}) ||
		u.ExpiresAt != wire.At(now.Add(time.Minute+approval.Lifetime)) {
		t.Errorf("use %+v", u)
	}
}

func TestWithoutApprovalsOneIsRequired(t *testing.T) {
	f := gated(t, 2)
	f.wantRefused(t, "none", refusal.ApprovalRequired)
	f.need.Count = 0
	f.wantRefused(t, "a need of nobody is not met by nobody", refusal.ApprovalRequired)
	if _, err := f.check(f.decide(bob, approval.Approve)); err != nil {
		t.Errorf("a need of nobody, and one agrees: %v", err)
	}
}

func TestE2RequesterApproves(t *testing.T) {
	f := gated(t, 1)
	_, err := approval.Make(private[key.Operator](t, alice), f.req, f.hash, approval.Approve, now)
	if refusal.Of(err) != refusal.SelfApproval {
		t.Errorf("honest client: %v", err)
	}
	f.wantRefused(t, "own key", refusal.SelfApproval, f.forge(alice, func(*approval.Approval) {}))
	f.wantRefused(t, "second key of the same person", refusal.SelfApproval, f.decide(aliceTwo, approval.Approve))
	f.need.Count = 2
	f.wantRefused(t, "as one of two", refusal.SelfApproval, f.decide(bob, approval.Approve), f.decide(aliceTwo, approval.Approve))
	if _, err := f.check(f.decide(aliceTwo, approval.Approve), f.decide(bob, approval.Approve), f.decide(carol, approval.Approve)); err != nil {
		t.Errorf("two others agree as well: %v", err)
	}
}

func TestE3SecondRunNeedsItsOwnApproval(t *testing.T) {
	f := gated(t, 1)
	s := f.decide(bob, approval.Approve)
	f.wantRefused(t, "same approval offered twice for two people", refusal.ApprovalUsed, func() []statement.Signed { f.need.Count = 2; return []statement.Signed{s, s} }()...)
	f.need.Count = 1
	f.ask(func(r *wire.Request) { r.ID[0]++ })
	f.wantRefused(t, "same command asked again", refusal.ApprovalMismatch, s)
}

func TestE4ApprovalForOtherContent(t *testing.T) {
	for what, edit := range map[string]func(*wire.Request){
		"another command":        func(r *wire.Request) { r.Params.Argv = args("rm", "-r", "c") },
		"one argument split":     func(r *wire.Request) { r.Params.Argv = args("rm", "-r", "a", "b") },
		"two arguments joined":   func(r *wire.Request) { r.Params.Argv = args("rm", "-r a b") },
		"empty argument added":   func(r *wire.Request) { r.Params.Argv = args("rm", "-r", "a b", "") },
		"arguments in order":     func(r *wire.Request) { r.Params.Argv = args("-r", "rm", "a b") },
		"no arguments":           func(r *wire.Request) { r.Params.Argv = nil },
		"another directory":      func(r *wire.Request) { r.Params.Cwd = wire.Bytes("/") },
		"another user":           func(r *wire.Request) { r.Params.User = "root" },
		"another variable":       func(r *wire.Request) { r.Params.Env[0].Value = wire.Bytes("D") },
		"a variable fewer":       func(r *wire.Request) { r.Params.Env = []wire.EnvVar{} },
		"no variables":           func(r *wire.Request) { r.Params.Env = nil },
		"on a terminal":          func(r *wire.Request) { r.Params.TTY = true },
		"another session":        func(r *wire.Request) { r.Session[0]++ },
		"another agent":          func(r *wire.Request) { r.Agent[0]++ },
		"only the hash differs":  func(r *wire.Request) { r.Reason = "another reason" },
		"only the id differs":    func(r *wire.Request) { r.ID[0]++ },
		"a byte that is no text": func(r *wire.Request) { r.Params.Argv = args("rm", "-r", "a\xffb") },
	} {
		f := gated(t, 1)
		s := f.decide(bob, approval.Approve)
		f.ask(edit)
		f.wantRefused(t, what, refusal.ApprovalMismatch, s)
		if _, err := f.check(f.decide(bob, approval.Approve)); err != nil {
			t.Errorf("%s, approved as it is: %v", what, err)
		}
	}
}

// The hash alone would do against a server; the repeated fields are what the log
// and the approver's screen show, so they may not lie either.
func TestE4RepeatedFieldsMustNotLie(t *testing.T) {
	f := gated(t, 1)
	for what, edit := range map[string]func(*approval.Approval){
		"argv":      func(a *approval.Approval) { a.Params.Argv = args("ls") },
		"team":      func(a *approval.Approval) { a.Team[0]++ },
		"session":   func(a *approval.Approval) { a.Session[0]++ },
		"agent":     func(a *approval.Approval) { a.Agent[0]++ },
		"requester": func(a *approval.Approval) { a.Requester[0]++ },
		"action":    func(a *approval.Approval) { a.Action = wire.Shell },
		"hash":      func(a *approval.Approval) { a.RequestHash[0]++ },
		"cwd":       func(a *approval.Approval) { a.Params.Cwd = nil },
	} {
		f.wantRefused(t, what, refusal.ApprovalMismatch, f.forge(bob, edit))
	}
	f.wantRefused(t, "no decision", refusal.BadStatement, f.forge(bob, func(a *approval.Approval) { a.Decision = "" }))
	f.wantRefused(t, "another decision", refusal.BadStatement, f.forge(bob, func(a *approval.Approval) { a.Decision = "Approve" }))
	if _, err := f.check(f.forge(bob, func(*approval.Approval) {})); err != nil {
		t.Errorf("unchanged: %v", err)
	}
}

func TestE4ZeroByteInAnArgument(t *testing.T) {
	for what, edit := range map[string]func(*wire.Request){
		"argument":      func(r *wire.Request) { r.Params.Argv = args("rm", "a\x00b") },
		"directory":     func(r *wire.Request) { r.Params.Cwd = wire.Bytes("/srv\x00") },
		"user":          func(r *wire.Request) { r.Params.User = "\x00" },
		"variable":      func(r *wire.Request) { r.Params.Env[0].Value = wire.Bytes("\x00") },
		"variable name": func(r *wire.Request) { r.Params.Env[0].Name = "A\x00" },
	} {
		f := gated(t, 1)
		f.ask(edit)
		_, err := approval.Make(private[key.Operator](t, bob), f.req, f.hash, approval.Approve, now)
		if refusal.Of(err) != refusal.BadArgument {
			t.Errorf("%s, approver's client: %v", what, err)
		}
		f.wantRefused(t, what, refusal.BadArgument, f.forge(bob, func(*approval.Approval) {}))
	}
}

func TestE5ShellStringEqualToTheJoinedArgv(t *testing.T) {
	f := gated(t, 1)
	s := f.decide(bob, approval.Approve)
	f.ask(func(r *wire.Request) { r.Action = wire.Shell })
	f.wantRefused(t, "shell with the same words", refusal.ApprovalMismatch, s)
	f.ask(func(r *wire.Request) { r.Params.Argv = args("rm -r a b") })
	f.wantRefused(t, "one string", refusal.ApprovalMismatch, s)
}

func TestE11Times(t *testing.T) {
	f := gated(t, 1)
	at := func(d time.Duration) wire.Millis { return wire.At(now.Add(d)) }
	for _, c := range []struct {
		what        string
		issued, end time.Duration
		want        refusal.Code
	}{
		{"stale", 0, 2 * time.Minute, refusal.Expired},
		{"last millisecond", 0, 2*time.Minute + time.Millisecond, ""},
		{"before the request", -time.Minute - time.Millisecond, 3 * time.Minute, refusal.BadTime},
		{"approver's clock a little behind", -time.Minute, 3 * time.Minute, ""},
		{"the agent's clock moved back", 3*time.Minute + time.Millisecond, 5 * time.Minute, refusal.BadTime},
		{"approver's clock a little ahead", 3 * time.Minute, 5 * time.Minute, ""},
		{"lives too long", time.Minute, 6*time.Minute + time.Millisecond, refusal.BadTime},
		{"lives as long as it may", time.Minute, 6 * time.Minute, ""},
		{"ends at once", time.Minute, time.Minute, refusal.BadTime},
		{"ends before it begins", 3 * time.Minute, time.Minute, refusal.BadTime},
	} {
		s := f.forge(bob, func(a *approval.Approval) { a.IssuedAt, a.ExpiresAt = at(c.issued), at(c.end) })
		if _, err := f.check(s); refusal.Of(err) != c.want {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
	}
	f.wantRefused(t, "times that overflow", refusal.BadTime, f.forge(bob, func(a *approval.Approval) { a.IssuedAt, a.ExpiresAt = -1<<63, 1<<63-1 }))
	f.ask(func(r *wire.Request) { r.ExpiresAt = at(2 * time.Minute) })
	f.wantRefused(t, "the request itself is stale", refusal.Expired, f.forge(bob, func(*approval.Approval) {}))
}

func TestE12DenyBeatsApprove(t *testing.T) {
	f := gated(t, 1)
	yes, also, no := f.decide(bob, approval.Approve), f.decide(carol, approval.Approve), f.decide(erin, approval.Deny)
	for what, list := range map[string][]statement.Signed{
		"alone": {no}, "first": {no, yes, also}, "last": {yes, also, no}, "between": {yes, no, also},
	} {
		f.wantRefused(t, what, refusal.ApprovalDenied, list...)
	}
	f.wantRefused(t, "who approved changes their mind", refusal.ApprovalDenied, yes, f.decide(bob, approval.Deny))
	f.wantRefused(t, "the requester withdraws", refusal.ApprovalDenied, yes, f.decide(alice, approval.Deny))
	old := f.forge(erin, func(a *approval.Approval) {
		a.Decision, a.ExpiresAt = approval.Deny, wire.At(now.Add(61*time.Second))
	})
	f.wantRefused(t, "a denial does not expire", refusal.ApprovalDenied, yes, old)
}

func TestE12DenialByWhoMayNotDecideIsNone(t *testing.T) {
	f := gated(t, 1)
	yes := f.decide(bob, approval.Approve)
	for what, no := range map[string]statement.Signed{
		"operator":        f.decide(dave, approval.Deny),
		"stranger":        f.decide(stranger, approval.Deny),
		"another request": f.forge(erin, func(a *approval.Approval) { a.Decision, a.RequestHash = approval.Deny, key.Hash{1} }),
	} {
		if _, err := f.check(no, yes); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestE13RightTakenAwayBetweenApproveAndExec(t *testing.T) {
	id := private[key.Operator](t, bob).ID()
	for _, c := range []struct {
		what string
		edit func(*roster.Roster)
		want refusal.Code
	}{
		{"role", func(r *roster.Roster) { r.Operators[2].Role = policy.Operator }, refusal.ApproverNotAllowed},
		{"key revoked", func(r *roster.Roster) { r.Revoke(id) }, refusal.ApproverNotAllowed},
		{"key ended", func(r *roster.Roster) { r.Operators[2].NotAfter = wire.At(now.Add(2 * time.Minute)) }, refusal.ApproverNotAllowed},
		{"entry removed", func(r *roster.Roster) { r.Operators = append(r.Operators[:2], r.Operators[3:]...) }, refusal.UnknownKey},
		{"became the requester", func(r *roster.Roster) { r.Operators[2].Person = "alice" }, refusal.SelfApproval},
	} {
		f := gated(t, 1)
		s := f.decide(bob, approval.Approve)
		if _, err := f.check(s); err != nil {
			t.Fatal(err)
		}
		f.change(c.edit)
		f.wantRefused(t, c.what, c.want, s)
		if _, err := f.check(s, f.decide(carol, approval.Approve)); err != nil {
			t.Errorf("%s, but another agrees: %v", c.what, err)
		}
	}
	f := gated(t, 1)
	s := f.decide(bob, approval.Approve)
	f.change(func(r *roster.Roster) { r.Revoke(f.req.Operator) })
	f.wantRefused(t, "the requester's key", refusal.KeyRevoked, s)
}

func TestRolesAreThoseThatTheRuleNames(t *testing.T) {
	f := gated(t, 1)
	f.wantRefused(t, "an operator", refusal.ApproverNotAllowed, f.decide(dave, approval.Approve))
	f.need.Roles = policy.Roles(policy.Admin)
	f.wantRefused(t, "an approver where an admin is named", refusal.ApproverNotAllowed, f.decide(bob, approval.Approve))
	if _, err := f.check(f.decide(carol, approval.Approve)); err != nil {
		t.Errorf("the admin: %v", err)
	}
	f.need.Roles = policy.Roles(policy.Operator)
	if _, err := f.check(f.decide(dave, approval.Approve)); err != nil {
		t.Errorf("an operator where the rule names operators: %v", err)
	}
	f.need.Roles = 0
	f.wantRefused(t, "no role can do it", refusal.ApproverNotAllowed, f.decide(carol, approval.Approve))
}

func TestE14ServerMakesApprovals(t *testing.T) {
	f := gated(t, 1)
	good, _, err := statement.Open[approval.Approval](f.decide(bob, approval.Approve), func(key.ID) (statement.Verifier, error) {
		return private[key.Operator](t, bob).Public(), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for what, by := range map[string]statement.Signer{
		"with a key of its own": private[key.Operator](t, stranger),
		"with its grant key":    private[key.Grant](t, 1),
		"pretending to be bob":  liar{private[key.Operator](t, stranger), private[key.Operator](t, bob).ID()},
	} {
		s, err := statement.Sign(by, good)
		if err != nil {
			t.Fatal(err)
		}
		want := refusal.UnknownKey
		if by.ID() == private[key.Operator](t, bob).ID() {
			want = refusal.BadSignature
		}
		f.wantRefused(t, what, want, s)
	}
	owner, _ := statement.Sign(f.owner, good)
	f.wantRefused(t, "with an owner's key", refusal.WrongRole, owner)
	req, _ := statement.Sign(private[key.Operator](t, bob), f.req)
	f.wantRefused(t, "another statement of bob's", refusal.WrongType, req)
	f.wantRefused(t, "nothing", refusal.BadStatement, nil)
	f.wantRefused(t, "a flood", refusal.TooMany, make([]statement.Signed, approval.MaxApprovals+1)...)
}

// liar signs with one key and names another.
type liar struct {
	key.Private[key.Operator]
	id key.ID
}

func (l liar) ID() key.ID { return l.id }

func TestE15OnePersonDoesNotCountTwice(t *testing.T) {
	f := gated(t, 2)
	one, two := f.decide(bob, approval.Approve), f.decide(bobTwo, approval.Approve)
	f.wantRefused(t, "one approval", refusal.NotEnoughApprovers, one)
	f.wantRefused(t, "two keys of one person", refusal.NotEnoughApprovers, one, two)
	f.wantRefused(t, "two approvals of one key", refusal.NotEnoughApprovers, one, f.decide(bob, approval.Approve))
	uses, err := f.check(one, two, f.decide(carol, approval.Approve))
	if err != nil || len(uses) != 3 {
		t.Errorf("two people: %d uses, %v; all three have to be recorded", len(uses), err)
	}
}

func TestE17ApproverOfAnotherTeamWithTheSameEmail(t *testing.T) {
	f := gated(t, 1)
	f.wantRefused(t, "their key", refusal.UnknownKey, f.decide(stranger, approval.Approve))
	f.ask(func(r *wire.Request) { r.Team[0]++ })
	f.wantRefused(t, "request of another team", refusal.WrongTeam, f.decide(bob, approval.Approve))
}

func TestRequestThatCannotBeApproved(t *testing.T) {
	f := gated(t, 1)
	bobs := private[key.Operator](t, bob)
	mk := func(at time.Time, d approval.Decision, hash key.Hash) refusal.Code {
		_, err := approval.Make(bobs, f.req, hash, d, at)
		return refusal.Of(err)
	}
	for what, got := range map[string]struct{ got, want refusal.Code }{
		"no decision":         {mk(now, "", f.hash), refusal.BadRequest},
		"no hash":             {mk(now, approval.Approve, key.Hash{}), refusal.BadRequest},
		"expired":             {mk(now.Add(wire.GatedRequestLifetime), approval.Approve, f.hash), refusal.Expired},
		"from the future":     {mk(now.Add(-2*time.Minute), approval.Approve, f.hash), refusal.BadTime},
		"a clock just behind": {mk(now.Add(-30*time.Second), approval.Approve, f.hash), ""},
	} {
		if got.got != got.want {
			t.Errorf("%s: %q, want %q", what, got.got, got.want)
		}
	}
	s := f.decide(bob, approval.Approve)
	f.hash = key.Hash{}
	f.wantRefused(t, "the agent has no hash", refusal.BadRequest, s)
}

func TestApprovalEndsWithItsRequest(t *testing.T) {
	f := gated(t, 1)
	end := now.Add(wire.GatedRequestLifetime)
	s, err := approval.Make(private[key.Operator](t, bob), f.req, f.hash, approval.Approve, end.Add(-time.Second))
	if err != nil {
		t.Fatal(err)
	}
	uses, err := approval.Check(f.state, f.req, f.hash, f.need, []statement.Signed{s}, end.Add(-time.Millisecond))
	if err != nil || uses[0].ExpiresAt != wire.At(end) {
		t.Errorf("%+v, %v; want an end at %v", uses, err, end)
	}
}

func TestAnyByteFlippedInAnApproval(t *testing.T) {
	f := gated(t, 1)
	bits := []byte{0x01, 0x20, 0x80} // each byte has two of them turned, one in each decision; FuzzCheck turns all
	for turn, d := range []approval.Decision{approval.Approve, approval.Deny} {
		good := f.decide(bob, d)
		for i := range good {
			bit := bits[(i+turn)%len(bits)]
			bad := bytes.Clone(good)
			bad[i] ^= bit
			uses, err := f.check(bad)
			if code := refusal.Of(err); len(uses) != 0 || code == "" || code == refusal.ApprovalDenied {
				t.Fatalf("%s, byte %d of %d xor %#x: %v", d, i, len(good), bit, err)
			}
		}
	}
}

// Whatever the order, and whatever rubbish lies between, the outcome depends on
// who agreed and who denied alone.
func TestOutcomeDoesNotDependOnOrder(t *testing.T) {
	f := gated(t, 2)
	pool := []statement.Signed{
		f.decide(bob, approval.Approve), f.decide(bobTwo, approval.Approve), f.decide(carol, approval.Approve),
		f.decide(erin, approval.Deny), f.decide(stranger, approval.Approve), f.decide(aliceTwo, approval.Approve), nil,
	}
	people := []string{"bob", "bob", "carol", "", "", "", ""}
	for mask := range 1 << len(pool) {
		var list []statement.Signed
		agreed := map[string]bool{}
		for i, s := range pool {
			if mask>>i&1 == 1 {
				list = append(list, s)
				agreed[people[i]] = people[i] != ""
			}
		}
		delete(agreed, "")
		want := len(agreed) >= 2 && mask>>3&1 == 0
		for range 3 {
			rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
			if _, err := f.check(list...); (err == nil) != want || mask>>3&1 == 1 && refusal.Of(err) != refusal.ApprovalDenied {
				t.Fatalf("set %07b: %v, want success %v", mask, err, want)
			}
		}
	}
}

func FuzzCheck(f *testing.F) {
	g := gated(f, 1)
	f.Add([]byte(g.decide(bob, approval.Approve)))
	f.Add([]byte(g.decide(carol, approval.Deny)))
	f.Add([]byte(fmt.Sprintf(`{"payload":"e30","type":"tucdesk/approval/v1","kid":"%064x","sig":""}`, 0)))
	keys := map[key.ID]key.Private[key.Operator]{}
	for n := range stranger {
		k := private[key.Operator](f, n)
		keys[k.ID()] = k
	}
	f.Fuzz(func(t *testing.T, s []byte) {
		uses, err := g.check(s)
		if err != nil {
			return
		}
		a, by, err := statement.Open[approval.Approval](s, g.state.FindOperator(now))
		if err != nil || len(uses) != 1 || uses[0].ID != a.ID {
			t.Fatalf("accepted %+v, %v", uses, err)
		}
		if again, err := statement.Sign(keys[by], a); err != nil || !bytes.Equal(again, s) {
			t.Errorf("accepted, but written again as %q, %v", again, err)
		}
	})
}

func BenchmarkCheckTwoApprovals(b *testing.B) {
	f := gated(b, 2)
	one, two := f.decide(bob, approval.Approve), f.decide(carol, approval.Approve)
	for b.Loop() {
		if _, err := f.check(one, two); err != nil {
			b.Fatal(err)
		}
	}
}
