package rendezvous

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/policy/roster"
	"github.com/tucdesk/tucdesk/rendezvous/store"
	"github.com/tucdesk/tucdesk/rendezvous/store/pgtest"
)

// pg is shared by the tests of this binary; each takes a database of its own.
var pg pgtest.Cluster

func TestMain(m *testing.M) {
	code := m.Run()
	pg.Stop()
	os.Exit(code)
}

// onBoth runs a test on a server with each kind of database. It is for what the
// database has a part in: walls between teams, what is used once, what happens at
// the same time. Package store runs all of its own tests on both.
func onBoth(t *testing.T, test func(t *testing.T, n *node)) {
	t.Run("sqlite", func(t *testing.T) { test(t, startNode(t)) })
	t.Run("postgres", func(t *testing.T) { test(t, startNodeWith(t, func(cfg *Config) { cfg.Database = onPostgres(t) })) })
}

// onPostgres is the address of a database with empty tables.
func onPostgres(t testing.TB) string {
	t.Helper()
	return pg.Filled(t, func(dsn string) error {
		s, err := store.Open(context.Background(), dsn)
		if err != nil {
			return err
		}
		return s.Close()
	})
}

// hostileText is what a text that reaches the database may look like, without the
// zero byte that no text may have.
const hostileText = `'; DROP TABLE agents; -- "$1" %s \\ \' {{.}} ` + "\u202e"

// TestK7HostileTextIsStoredAsItIs, and used a second time where it is read back: in
// lists, in the log, in what people approve.
func TestK7HostileTextIsStoredAsItIs(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, n *node) {
		c := found(t, n)
		h := c.newHost("db-1", "prod")
		h.version, h.hostname = hostileText, hostileText
		h.accepting()
		list := must(c.api.Agents(t.Context(), c.cred(policy.Viewer), ""))
		if len(list.Agents) != 1 || list.Agents[0].Hostname != hostileText || list.Agents[0].Version != hostileText {
			t.Fatalf("%+v", list)
		}
		op, ap := c.people[policy.Operator], c.people[policy.Approver]
		open := c.request(op, h, func(r *wire.Request) {
			r.ExpiresAt = r.IssuedAt + wire.Millis(wire.GatedRequestLifetime.Milliseconds())
			r.Action, r.Params.Argv, r.Params.Cwd, r.Params.User, r.Reason = wire.Exec, []wire.Bytes{wire.Bytes(hostileText)}, wire.Bytes("/"+hostileText), "", hostileText
		})
		must(c.api.OpenSession(t.Context(), op.cred, open))
		must(c.api.Approve(t.Context(), ap.cred, open.Request.Hash(), decision(t, ap, open, op, approval.Approve)))
		if reply := must(c.api.OpenSession(t.Context(), op.cred, open)); len(reply.Accept) == 0 {
			t.Fatalf("%+v", reply)
		}
		a := attack(t, n)
		for _, target := range []string{"/v1/agents?after=%27%3BDROP", "/v1/requests/%27", "/v1/agents?after=';--"} {
			if got := a.send(forged{method: "GET", target: target, token: op.cred.Token}); got.status/100 != 4 {
				t.Errorf("%s: %d", target, got.status)
			}
		}
		zero := c.newHost("db-2")
		zero.hostname = "a\x00b"
		wantCode(t, zero.tryDial(nil), refusal.BadRequest)
		if list := must(c.api.Agents(t.Context(), c.cred(policy.Viewer), "")); len(list.Agents) != 1 {
			t.Fatalf("%d agents afterwards", len(list.Agents))
		}
	})
}

// TestK11SecondWallBehindARunningServer: whoever gets the server's own role in the
// database, but names no team, sees no row of any.
func TestK11SecondWallBehindARunningServer(t *testing.T) {
	t.Parallel()
	dsn := onPostgres(t)
	c := found(t, startNodeWith(t, func(cfg *Config) { cfg.Database = dsn }))
	h := c.newHost("db-1", "prod").accepting()
	open := gated(c, h)
	must(c.api.OpenSession(t.Context(), c.cred(policy.Operator), open))
	ap := c.people[policy.Approver]
	must(c.api.Approve(t.Context(), ap.cred, open.Request.Hash(), decision(t, ap, open, c.people[policy.Operator], approval.Approve)))
	tables := strings.Fields(pg.Query(t, dsn, `SELECT table_name FROM information_schema.columns WHERE column_name = 'team_id' AND table_schema = 'public' ORDER BY 1`))
	if len(tables) < 12 {
		t.Fatalf("tables %v", tables)
	}
	id := c.state.Team().String()
	for _, table := range tables {
		if got := pg.Query(t, dsn, `SELECT count(*) FROM `+table); got != "0" {
			t.Errorf("%s shows %s rows to nobody's team", table, got)
		}
		other := pg.Query(t, dsn, `SELECT set_config('tucdesk.team', '`+wire.NewTeamID().String()+`', false); SELECT count(*) FROM `+table)
		if !strings.HasSuffix(other, "\n0") {
			t.Errorf("%s shows rows to another team: %q", table, other)
		}
	}
	for _, table := range []string{"agents", "requests", "approvals", "evidence", "audit_entries"} {
		own := pg.Query(t, dsn, `SELECT set_config('tucdesk.team', '`+id+`', false); SELECT count(*) > 0 FROM `+table)
		if !strings.HasSuffix(own, "\nt") {
			t.Errorf("%s is empty for its own team as well: the test proves nothing", table)
		}
	}
}

// TestK16RosterAndSessionAtOnce: of a revocation and a session that are under way
// at once, no session is granted by a roster that is no longer in force.
func TestK16RosterAndSessionAtOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, n *node) {
		c := found(t, n)
		h := c.newHost("web-1").accepting()
		op := c.people[policy.Operator]
		open := c.request(op, h, nil)
		published := make(chan struct{})
		go func() {
			defer close(published)
			c.publish(func(r *roster.Roster) { r.Revoke(op.key.ID()) })
		}()
		_, err := c.api.OpenSession(t.Context(), op.cred, open)
		<-published
		if err != nil && refusal.Of(err) != refusal.KeyRevoked {
			t.Fatal(err)
		}
		for _, e := range c.entries() {
			if e.Type == "session.open" && e.RosterVersion != 1 {
				t.Errorf("granted by version %d", e.RosterVersion)
			}
		}
		wantCode(t, func() error {
			_, err := c.api.OpenSession(t.Context(), op.cred, c.request(op, h, func(r *wire.Request) { r.IssuedAt = wire.At(time.Now()) }))
			return err
		}(), refusal.KeyRevoked)
	})
}
