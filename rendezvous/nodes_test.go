package rendezvous

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/policy/roster"
)

func TestD2ProofOnTwoNodes(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, n *node) {
		first := n
		c := found(t, first)
		other := first.second(t)
		a, b := attack(t, first), attack(t, other)
		for range 5 {
			f := c.tokenCall(nil)
			var wg sync.WaitGroup
			var got [2]answer
			wg.Go(func() { got[0] = a.send(f) })
			wg.Go(func() { got[1] = b.send(f) })
			wg.Wait()
			if (got[0].status == 200) == (got[1].status == 200) {
				t.Fatalf("statuses %d and %d", got[0].status, got[1].status)
			}
		}
	})
}

func rosterOfOneNodeBindsTheOther(t *testing.T) {
	first := startNode(t)
	c := found(t, first)
	other := first.second(t)
	there := newAPI(t, other)
	op := c.people[policy.Operator]
	if _, err := there.Tokens(t.Context(), op.cred); err != nil {
		t.Fatal(err)
	}
	c.publish(func(r *roster.Roster) { r.Revoke(op.key.ID()) })
	_, err := there.Tokens(t.Context(), op.cred)
	wantCode(t, err, refusal.KeyRevoked)
}

// TestTeamOfAnotherNodeIsFoundAtOnce: an agent that joins believes "not found" and
// gives its key up, so nobody may hear it of a team that is there: neither while
// somebody else is asking, nor after somebody has asked for a team that is not.
func TestTeamOfAnotherNodeIsFoundAtOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, first *node) {
		found(t, first)
		other := first.second(t)
		_, err := other.teams.Find(t.Context(), wire.NewTeamID())
		wantCode(t, err, refusal.NotFound)
		late := found(t, first).state.Team()
		var asking sync.WaitGroup
		for range 16 {
			asking.Go(func() {
				if _, err := other.teams.Find(t.Context(), late); err != nil {
					t.Errorf("beside others: %v", err)
				}
			})
		}
		asking.Wait()
		if n := len(other.teams.All()); n != 2 {
			t.Errorf("the node has taken up %d teams", n)
		}
	})
}

func TestE12OneApprovalOpensOneSession(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, n *node) {
		c := found(t, n)
		h := c.newHost("db-1", "prod").accepting()
		op, ap := c.people[policy.Operator], c.people[policy.Approver]
		open := gated(c, h)
		must(c.api.OpenSession(t.Context(), op.cred, open))
		must(c.api.Approve(t.Context(), ap.cred, open.Request.Hash(), decision(t, ap, open, op, approval.Approve)))
		results := make(chan error, 8)
		for range cap(results) {
			go func() {
				_, err := c.api.OpenSession(t.Context(), op.cred, open)
				results <- err
			}()
		}
		opened := 0
		for range cap(results) {
			switch err := <-results; refusal.Of(err) {
			case "":
				if err != nil {
					t.Error(err)
				}
				opened++
			case refusal.ApprovalUsed:
			default:
				t.Error(err)
			}
		}
		granted := 0
		for _, e := range c.entries() {
			if e.Type == entry.SessionOpen {
				granted++
			}
		}
		if opened != 1 || granted != 1 {
			t.Fatalf("%d opened, %d in the log", opened, granted)
		}
	})
}

func TestK8DecisionsAtOnceEndInOneState(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, n *node) {
		c := found(t, n)
		h := c.newHost("db-1", "prod").accepting()
		op, ap, ad := c.people[policy.Operator], c.people[policy.Approver], c.people[policy.Admin]
		for range 3 {
			open := gated(c, h)
			hash := open.Request.Hash()
			must(c.api.OpenSession(t.Context(), op.cred, open))
			yes, no := decision(t, ap, open, op, approval.Approve), decision(t, ad, open, op, approval.Deny)
			var wg sync.WaitGroup
			var denied, cancelled, opened error
			wg.Go(func() { _, _ = c.api.Approve(t.Context(), ap.cred, hash, yes) })
			wg.Go(func() { _, denied = c.api.Approve(t.Context(), ad.cred, hash, no) })
			wg.Go(func() { _, cancelled = c.api.Cancel(t.Context(), op.cred, hash) })
			wg.Go(func() {
				var reply wire.SessionReply
				if reply, opened = c.api.OpenSession(t.Context(), op.cred, open); opened == nil && reply.Pending != nil {
					opened = refusal.New(refusal.ApprovalPending, "")
				}
			})
			wg.Wait()
			info := must(c.api.Request(t.Context(), op.cred, hash, 0))
			if code := refusal.Of(opened); info.State == wire.RequestUsed && (code == refusal.ApprovalCancelled || code == refusal.ApprovalDenied) {
				opened = nil // it was first, and was cut off by the others before it had begun
			}
			won := 0
			for _, err := range []error{denied, cancelled, opened} {
				if err == nil {
					won++
				}
			}
			want := map[wire.RequestState]error{wire.RequestDenied: denied, wire.RequestCancelled: cancelled, wire.RequestUsed: opened}
			if err, final := want[info.State]; won != 1 || !final || err != nil {
				t.Fatalf("state %s; denied %v, cancelled %v, opened %v", info.State, denied, cancelled, opened)
			}
		}
	})
}

func slowCallersAreClosed(t *testing.T) {
	const late = (headerWithin + requestWithin) / 2 // no limit but the header's is below that
	n := startNode(t)
	slow := map[string]string{
		"silent":      "",
		"half a line": "GET /heal",
		"half a head": "GET /healthz HTTP/1.1\r\nHost: x\r\n",
	}
	var wg sync.WaitGroup
	for name, text := range slow {
		conn := raw(t, n)
		wg.Go(func() {
			start := time.Now()
			_, _ = io.WriteString(conn, text)
			_, _ = io.Copy(io.Discard, conn)
			if d := time.Since(start); d > late {
				t.Errorf("%s: closed after %v", name, d)
			}
		})
	}
	idle := make([]net.Conn, 200) // sockets without a handshake
	for i := range idle {
		var err error
		if idle[i], err = net.Dial("tcp", n.Addr().String()); err != nil {
			t.Fatal(err)
		}
		defer idle[i].Close()
	}
	if err := newAPI(t, n).Health(t.Context()); err != nil {
		t.Errorf("beside them: %v", err)
	}
	_ = idle[0].SetReadDeadline(time.Now().Add(late))
	if _, err := idle[0].Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("an idle socket: %v", err)
	}
	wg.Wait()
}
