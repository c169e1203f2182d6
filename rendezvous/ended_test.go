package rendezvous

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
)

// K10: who had a session hears of its end, in the agent's own words; to others, of
// the team and of other teams, there was no such session.
func TestK10EndOfASessionIsToldItsOperatorAlone(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	c, others := found(t, n), found(t, n)
	h := c.newHost("web-1")
	h.dial()
	session := wire.NewSessionID()
	operator := c.people[policy.Operator].key.ID()
	var list []statement.Signed
	for _, e := range []entry.Entry{
		{Type: entry.AgentStart}, {Type: entry.RosterApplied},
		{Type: entry.SessionEnd, Session: session, Actor: entry.Actor{Kid: operator}},
	} {
		e.ID, e.Time, e.Team, e.Seq = wire.NewNonce(), wire.At(time.Now()), c.state.Team(), uint64(len(list)+1)
		if len(list) > 0 {
			e.Previous = list[len(list)-1].Hash()
		}
		list = append(list, sign(t, h.key, e))
	}
	asked := func(role policy.Role, session wire.SessionID, agent key.ID) statement.Signed {
		t.Helper()
		return must(c.api.SessionEnd(t.Context(), c.cred(role), session, agent)).Entry
	}
	if s := asked(policy.Operator, session, h.key.ID()); s != nil {
		t.Errorf("ended before it was said: %s", s)
	}
	body := must(json.Marshal(wire.AuditEntries{Entries: list}))
	if err := h.ctl.Send(t.Context(), wire.Frame{Type: wire.FrameAudit, Body: body}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the word to arrive", func() bool { return asked(policy.Operator, session, h.key.ID()) != nil })
	for name, q := range map[string]struct {
		role    policy.Role
		session wire.SessionID
		agent   key.ID
		want    statement.Signed
	}{
		"its operator":    {policy.Operator, session, h.key.ID(), list[2]},
		"somebody else":   {policy.Admin, session, h.key.ID(), list[0]}, // as of a session that never was
		"another session": {policy.Operator, wire.NewSessionID(), h.key.ID(), list[0]},
	} {
		if got := asked(q.role, q.session, q.agent); string(got) != string(q.want) {
			t.Errorf("%s: %s, want %s", name, got, q.want)
		}
	}
	_, err := others.api.SessionEnd(t.Context(), others.cred(policy.Operator), session, h.key.ID())
	wantCode(t, err, refusal.NotFound)
	a := attack(t, n)
	for _, target := range []string{"/v1/sessions/x/end?agent=" + h.key.ID().String(), "/v1/sessions/" + session.String() + "/end"} {
		cred := c.cred(policy.Operator)
		if r := a.send(forged{method: http.MethodGet, target: target, token: cred.Token, key: cred.Key}); r.status != http.StatusNotFound && r.status != http.StatusBadRequest {
			t.Errorf("%s: %d", target, r.status)
		}
	}
}
