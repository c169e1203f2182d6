package audit_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/export"
	"github.com/tucdesk/tucdesk/internal/audit/finding"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/approval"
)

// exec entries are 3 (server), 4 accept, 5 start, 6 end, 7 end of session.
func TestApprovalsOfHighRiskCommands(t *testing.T) {
	argv := []string{"rm", "-rf", "/srv"}
	approve := func(w *world, by key.Private[key.Operator], argv []string, edit func(*approval.Approval)) statement.Signed {
		req, hash := w.request(w.agents[0], argv)
		s, err := approval.Make(by, req, hash, approval.Approve, w.now)
		check(w.t, err)
		a, _, err := statement.Open[approval.Approval](s, func(key.ID) (statement.Verifier, error) { return by.Public(), nil })
		check(w.t, err)
		edit(&a)
		s, err = statement.Sign(by, a)
		check(w.t, err)
		return s
	}
	same := func(*approval.Approval) {}
	for name, c := range map[string]struct {
		code  finding.Code
		swap  func(w *world, real statement.Signed, a approval.Approval) []statement.Signed
		peers int // people that the policy wanted
	}{
		"none": {finding.ApprovalMissing, func(*world, statement.Signed, approval.Approval) []statement.Signed { return nil }, 1},
		"one of two": {finding.ApprovalMissing, func(_ *world, s statement.Signed, _ approval.Approval) []statement.Signed {
			return []statement.Signed{s}
		}, 2},
		"twice bob":   {finding.ApprovalMissing, twice, 2},
		"other argv":  {finding.ApprovalInvalid, changed(func(a *approval.Approval) { a.Params.Argv[2] = wire.Bytes("/home") }), 1},
		"joined argv": {finding.ApprovalInvalid, changed(func(a *approval.Approval) { a.Params.Argv = []wire.Bytes{wire.Bytes("rm -rf"), wire.Bytes("/srv")} }), 1},
		"other user":  {finding.ApprovalInvalid, changed(func(a *approval.Approval) { a.Params.User = "root" }), 1},
		"other cwd":   {finding.ApprovalInvalid, changed(func(a *approval.Approval) { a.Params.Cwd = wire.Bytes("/tmp") }), 1},
		"other hash":  {finding.ApprovalInvalid, changed(func(a *approval.Approval) { a.RequestHash = key.Hash{1} }), 1},
		"other agent": {finding.ApprovalInvalid, changed(func(a *approval.Approval) { a.Agent = key.ID{1} }), 1},
		"denial":      {finding.ApprovalInvalid, changed(func(a *approval.Approval) { a.Decision = approval.Deny }), 1},
		"stale":       {finding.ApprovalInvalid, changed(func(a *approval.Approval) { a.IssuedAt -= 3600_000; a.ExpiresAt -= 3600_000 }), 1},
		"other asker": {finding.ApprovalInvalid, changed(func(a *approval.Approval) { a.Requester = key.ID{1} }), 1},
		"by who asked": {finding.ApprovalInvalid, func(w *world, _ statement.Signed, a approval.Approval) []statement.Signed {
			return []statement.Signed{mustSign(w, w.ann, a)}
		}, 1},
		"by a stranger": {finding.ApprovalInvalid, func(w *world, _ statement.Signed, a approval.Approval) []statement.Signed {
			return []statement.Signed{mustSign(w, private[key.Operator](w.t, 98), a)}
		}, 1},
		"for another request": {finding.ApprovalInvalid, func(w *world, _ statement.Signed, _ approval.Approval) []statement.Signed {
			return []statement.Signed{approve(w, w.bob, argv, same)}
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			req, hash := w.request(w.agents[0], argv)
			real, err := approval.Make(w.bob, req, hash, approval.Approve, w.now)
			check(t, err)
			a, _, err := statement.Open[approval.Approval](real, func(key.ID) (statement.Verifier, error) { return w.bob.Public(), nil })
			check(t, err)
			list := c.swap(w, real, a)
			var hashes []key.Hash
			for _, s := range list {
				hashes = append(hashes, s.Hash())
				w.rows.approvals[s.Hash()] = s
			}
			e := entry.Entry{
				Actor: entry.Actor{Kid: w.ann.ID()}, Session: req.Session, RequestHash: hash, Approvals: hashes,
				Policy: entry.PolicyResult{Decision: entry.NeedsApproval, Need: c.peers}, Command: &entry.Command{Action: wire.Exec, Argv: req.Params.Argv},
			}
			e.Type = entry.SessionAccept
			w.say(w.agents[0], e)
			e.Type = entry.ExecStart
			w.say(w.agents[0], e)
			r := w.verify(w.export())
			wantFinding(t, r, c.code, 4)
			for _, f := range r.Findings {
				if f.Code != finding.ApprovalMissing && f.Code != finding.ApprovalInvalid {
					t.Errorf("found besides: %v", f)
				}
			}
		})
	}
}

func twice(w *world, s statement.Signed, a approval.Approval) []statement.Signed {
	a.ID = wire.NewNonce()
	return []statement.Signed{s, mustSign(w, w.bob, a)}
}

func changed(edit func(*approval.Approval)) func(*world, statement.Signed, approval.Approval) []statement.Signed {
	return func(w *world, _ statement.Signed, a approval.Approval) []statement.Signed {
		edit(&a)
		return []statement.Signed{mustSign(w, w.bob, a)}
	}
}

func mustSign(w *world, k key.Private[key.Operator], a approval.Approval) statement.Signed {
	s, err := statement.Sign(k, a)
	check(w.t, err)
	return s
}

// The approval lists the password, the entry does not; both are of one command.
func TestApprovalOfARedactedCommand(t *testing.T) {
	w := newWorld(t)
	w.exec(w.agents[0], []string{"mysql", "-phunter2", "--execute=DROP TABLE x"}, w.bob)
	w.pass(time.Hour)
	lines := w.export()
	wantClean(t, w.verify(lines))
	for _, i := range entryLines(lines) {
		var l export.Line
		check(t, json.Unmarshal([]byte(lines[i]), &l))
		if c := entry.Peek(l.Entry).Command; c != nil && bytes.Contains(bytes.Join(plain(c.Argv), nil), []byte("hunter2")) {
			t.Errorf("entry with the password: %s", c.Argv)
		}
	}
}

func plain(argv []wire.Bytes) (out [][]byte) {
	for _, a := range argv {
		out = append(out, a)
	}
	return out
}
