package rendezvous

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/verify"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/rendezvous/store"
)

// history makes a team's life: a session, an approved one, a denied one.
func history(t testing.TB, c *crew) {
	t.Helper()
	web, db := c.newHost("web-1").accepting(), c.newHost("db-1", "prod").accepting()
	op, ap := c.people[policy.Operator], c.people[policy.Approver]
	must(c.api.OpenSession(t.Context(), op.cred, c.request(op, web, nil)))
	for _, d := range []approval.Decision{approval.Approve, approval.Deny} {
		open := gated(c, db)
		must(c.api.OpenSession(t.Context(), op.cred, open))
		must(c.api.Approve(t.Context(), ap.cred, open.Request.Hash(), decision(t, ap, open, op, d)))
		_, _ = c.api.OpenSession(t.Context(), op.cred, open)
	}
}

func exportVerifiesOffline(t *testing.T) {
	c := found(t, startNode(t))
	history(t, c)
	r, err := c.api.AuditExport(t.Context(), c.cred(policy.Admin))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	report, err := verify.Export(bytes.NewReader(data), c.state.Fingerprint(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		t.Errorf("finding: %+v", f)
	}
	c.logged(entry.AuditExport, "")
	_, err = c.api.AuditExport(t.Context(), c.cred(policy.Approver))
	wantCode(t, err, refusal.Forbidden)
}

// Requests are forgotten some days after they are settled; what the log says of
// them is proved by the approvals, which stay.
func exportVerifiesWhenRequestsAreForgotten(t *testing.T) {
	c := found(t, startNode(t))
	history(t, c)
	if list := must(c.api.Requests(t.Context(), c.cred(policy.Viewer))); len(list) != 2 {
		t.Fatalf("%d requests", len(list))
	}
	c.node.prune(t.Context(), time.Now()) // nothing is old enough
	err := c.node.store.InTx(t.Context(), c.node.teams.Known(c.state.Team()).ID, func(tx *store.Tx) error {
		n, err := tx.PruneRequests(time.Now().Add(store.KeepSettled + time.Hour))
		if n != 2 {
			t.Errorf("%d requests were forgotten", n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if list := must(c.api.Requests(t.Context(), c.cred(policy.Viewer))); len(list) != 0 {
		t.Fatalf("%d requests are left", len(list))
	}
	r := must(c.api.AuditExport(t.Context(), c.cred(policy.Admin)))
	defer r.Close()
	data := must(io.ReadAll(r))
	if n := bytes.Count(data, []byte(`{"approval":`)); n < 2 {
		t.Errorf("%d approvals in the export", n)
	}
	report := must(verify.Export(bytes.NewReader(data), c.state.Fingerprint(), time.Now()))
	for _, f := range report.Findings {
		t.Errorf("finding: %+v", f)
	}
}
