package judge

import (
	"testing"

	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

// A session process is hostile: it may ask for anything, and gets what its session
// was opened for.
func TestASessionIsAskedOnlyForWhatItWasOpenedFor(t *testing.T) {
	sessions := []wire.Action{wire.Shell, wire.Exec, wire.Copy, wire.Forward, wire.Ping}
	for asked, in := range map[policy.Action][]wire.Action{
		policy.CopyRead: {wire.Copy}, policy.CopyWrite: {wire.Copy}, policy.ForwardLocal: {wire.Forward}, policy.ForwardRemote: {wire.Forward},
		policy.ForwardAgent: {wire.Shell, wire.Exec}, policy.Background: {wire.Shell, wire.Exec},
		policy.Shell: nil, policy.Exec: nil, policy.Copy: nil, policy.Forward: nil, policy.Ping: nil, "": nil,
	} {
		for _, s := range sessions {
			want := false
			for _, ok := range in {
				want = want || ok == s
			}
			if got := belongs(s, wire.Action(asked)); got != want {
				t.Errorf("%q in a session for %q: %v", asked, s, got)
			}
		}
	}
}

func TestApprovalsOfASessionCoverOnlyWhatTheyWereGivenFor(t *testing.T) {
	two := policy.Approval{Count: 2, Roles: policy.Roles(policy.Approver)}
	for _, c := range []struct {
		need, had policy.Approval
		want      bool
	}{
		{two, two, true},
		{policy.Approval{Count: 1, Roles: policy.Roles(policy.Approver, policy.Admin)}, two, true},
		{two, policy.Approval{Count: 1, Roles: policy.Roles(policy.Approver)}, false},
		{two, policy.Approval{Count: 2, Roles: policy.Roles(policy.Approver, policy.Admin)}, false},
		{two, policy.Approval{}, false},
	} {
		if got := met(c.need, c.had); got != c.want {
			t.Errorf("need %+v, had %+v: %v", c.need, c.had, got)
		}
	}
}
