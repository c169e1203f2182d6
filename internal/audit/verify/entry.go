package verify

import (
	"bytes"
	"cmp"
	"hash/maphash"
	"maps"
	"slices"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/wire"
	"github.com/tucdesk/tucdesk/policy/approval"
	"github.com/tucdesk/tucdesk/policy/roster"
)

// DeliveryGrace is how long an agent's entries may be on their way after it
// named them in a registration; our choice.
const DeliveryGrace = 10 * time.Minute

func skew(d time.Duration) wire.Millis { return wire.Millis(d.Milliseconds()) }

// entry checks one entry in its place.
func (v *verifier) entry(it *item) {
	index := v.tree.Size()
	v.tree.Add(it.leaf)
	v.compareKnown()
	approvals := v.approvals
	v.approvals = nil
	if it.line.Index == nil || *it.line.Index != index {
		v.found(index, BadOrder, "the line's number is not the next one")
	}
	if it.err != nil {
		code := BadEntry
		if it.err == errUnknownSigner {
			code = BadSigner
		}
		v.found(index, code, "%v", it.err)
		return
	}
	e := &it.entry
	if e.Team != v.report.Team {
		v.found(index, BadEntry, "entry of another team")
		return
	}
	v.ids.add(e.ID, index)
	if e.RosterVersion > v.report.RosterVersion {
		v.found(index, BadRoster, "names roster %d, the chain ends at %d", e.RosterVersion, v.report.RosterVersion)
	}
	if h := v.hosts[it.kid]; h != nil {
		v.agentEntry(index, it, h, approvals)
		return
	}
	v.serverEntry(index, it)
	v.decided(index, &it.entry, approvals)
}

// compareKnown compares the tree with what the reader remembers.
func (v *verifier) compareKnown() {
	for len(v.known) > 0 && v.known[0].Size == v.tree.Size() {
		if v.known[0].Root != v.tree.Root() {
			v.foundRange(0, v.tree.Size()-1, RootMismatch, "a remembered checkpoint of %d entries has another root", v.tree.Size())
		}
		v.known = v.known[1:]
	}
}

func (v *verifier) serverEntry(index int64, it *item) {
	e := &it.entry
	if e.Type.ByAgent() {
		v.found(index, BadSigner, "a server signed what only an agent can say")
	}
	c := v.servers[it.kid]
	if c == nil {
		c = &chain{}
		v.servers[it.kid] = c
	}
	v.follow(index, c, it)
	if _, err := v.history.Audit(it.kid, e.Time.Time()); err != nil {
		v.found(index, BadSigner, "%v", err)
	}
	switch {
	case e.Time < v.serverTime-skew(wire.ClockSkew):
		v.found(index, BadTime, "earlier than the entries before it")
	case e.Time > wire.At(v.now)+skew(wire.ClockSkew):
		v.found(index, BadTime, "in the future")
	case e.Time < v.aheadTime-skew(wire.RegistrationSkew+wire.ClockSkew):
		v.found(v.aheadEntry, BadTime, "later than the log was at that place")
	}
	v.serverTime, v.aheadTime = max(v.serverTime, e.Time), 0
}

func (v *verifier) agentEntry(index int64, it *item, h *host, approvals []statement.Signed) {
	e := &it.entry
	if !e.Type.ByAgent() {
		v.found(index, BadSigner, "an agent signed what only a server can say")
	}
	before := h.time
	v.follow(index, &h.chain, it)
	if h.claim != nil && e.Seq == h.claim.seq {
		if h.claim.hash != it.hash {
			v.found(index, ChainFork, "the agent signed another entry %d than this", e.Seq)
		}
		h.claim.reached = true
	}
	// An agent can claim any time for its entry, but not a place in the log from
	// before its key was revoked.
	if err := v.history.Revoked(it.kid, max(e.Time, v.serverTime).Time()); err != nil {
		v.found(index, BadSigner, "%v", err)
	}
	if h.notAfter != 0 && e.Time >= h.notAfter {
		v.found(index, BadSigner, "the agent's certificate had ended")
	}
	if e.Time < before-skew(roster.MaxClockBack) {
		v.found(index, BadTime, "earlier than the agent's entries before it")
	}
	if e.Time > wire.At(v.now)+skew(wire.RegistrationSkew) {
		v.found(index, BadTime, "in the future")
	}
	if e.Time > v.aheadTime {
		v.aheadTime, v.aheadEntry = e.Time, index
	}
	v.session(index, e, it.kid)
	if e.Policy.Decision == entry.NeedsApproval && (e.Type == entry.SessionAccept || e.Type == entry.ExecStart) {
		v.approved(index, e, it.kid, approvals)
	}
}

// follow checks the signer's own chain and goes on from where it really is, so
// that one missing entry is one finding.
func (v *verifier) follow(index int64, c *chain, it *item) {
	e := &it.entry
	switch {
	case e.Seq > c.seq+1:
		v.found(index, ChainGap, "entries %d to %d of its signer are missing before this one", c.seq+1, e.Seq-1)
	case e.Seq <= c.seq:
		v.found(index, ChainFork, "its signer's entry %d again, or out of order", e.Seq)
	case e.Previous != c.hash:
		v.found(index, ChainFork, "it follows another entry %d of its signer than the one here", c.seq)
	}
	*c = chain{seq: max(e.Seq, c.seq), hash: it.hash, time: max(e.Time, c.time)}
}

// sessionAt is one session at one agent. Operators draw session ids, and nobody keeps
// one of them from giving two agents the same: that is no fault of the log, and
// must not become a finding that stays for ever.
type sessionAt struct {
	agent   key.ID
	session wire.SessionID
}

// session follows what an agent says of its sessions. An id that is accepted
// again for another request is a new session: the agent was killed in the first.
func (v *verifier) session(index int64, e *entry.Entry, agent key.ID) {
	at := sessionAt{agent, e.Session}
	request, open := v.sessions[at]
	switch e.Type {
	case entry.SessionAccept:
		if open && request == e.RequestHash {
			v.found(index, BadSession, "the session was accepted before")
		}
		v.sessions[at] = e.RequestHash
	case entry.SessionEnd:
		if !open {
			v.found(index, BadSession, "the session ends without a start at this agent")
		}
		delete(v.sessions, at)
	case entry.ExecStart, entry.ExecEnd:
		if !open {
			v.found(index, BadSession, "a command outside of a session at this agent")
		}
	case entry.SpoolGap:
		if e.Gap != nil && e.Gap.Open {
			v.report.Gaps++
		}
	}
}

// approved checks that enough people agreed to exactly what was recorded.
func (v *verifier) approved(index int64, e *entry.Entry, agent key.ID, offered []statement.Signed) {
	people := map[string]bool{}
	for _, hash := range e.Approvals {
		i := slices.IndexFunc(offered, func(s statement.Signed) bool { return s.Hash() == hash })
		if i < 0 {
			continue
		}
		person, problem := v.approver(e, agent, offered[i])
		if problem != "" {
			v.found(index, ApprovalInvalid, "%s", problem)
			continue
		}
		people[person] = true
	}
	if need := max(e.Policy.Need, 1); len(people) < need {
		v.found(index, ApprovalMissing, "%d of %d people are shown to have approved", len(people), need)
	}
}

// decided checks what stands before a server's entry: exactly the approvals and
// denials that the entry names, as their signers made them. A denial is shown by
// the server's entry alone, so nobody else would miss it.
func (v *verifier) decided(index int64, e *entry.Entry, offered []statement.Signed) {
	for _, hash := range e.Approvals {
		if !slices.ContainsFunc(offered, func(s statement.Signed) bool { return s.Hash() == hash }) {
			v.found(index, ApprovalMissing, "a decision that the entry names is not here")
		}
	}
	for _, s := range offered {
		if !slices.Contains(e.Approvals, s.Hash()) {
			v.found(index, BadLine, "a decision that the entry does not name stands before it")
			continue
		}
		_, _, err := statement.Open[approval.Approval](s, func(kid key.ID) (statement.Verifier, error) {
			by, err := v.history.Operator(kid, e.Time.Time())
			return by.Key, err
		})
		if err != nil {
			v.found(index, ApprovalInvalid, "a decision does not hold: %v", err)
		}
	}
}

func (v *verifier) approver(e *entry.Entry, agent key.ID, s statement.Signed) (person, problem string) {
	var by roster.Operator
	a, _, err := statement.Open[approval.Approval](s, func(kid key.ID) (_ statement.Verifier, err error) {
		if by, err = v.history.Operator(kid, e.Time.Time()); err != nil {
			return nil, err
		}
		return by.Key, nil
	})
	if err != nil {
		return "", "an approval does not hold: " + err.Error()
	}
	requester, err := v.history.Operator(a.Requester, e.Time.Time())
	switch {
	case err != nil:
		return "", "who asked was no operator: " + err.Error()
	case a.Decision != approval.Approve:
		return "", "what is listed as an approval is a denial"
	case a.Team != e.Team || a.RequestHash != e.RequestHash || a.Session != e.Session || a.Agent != agent || a.Requester != e.Actor.Kid:
		return "", "an approval is for another request, agent or requester"
	case requester.Person == by.Person:
		return "", "who asked approved it as well"
	case e.Time < a.IssuedAt-skew(wire.ClockSkew) || e.Time > a.ExpiresAt+skew(wire.ClockSkew):
		return "", "an approval is from another time"
	case e.Command != nil && !sameCommand(e.Command, a):
		return "", "an approval is for another command"
	}
	return by.Person, ""
}

// sameCommand compares what was recorded with what was approved, in the
// recorded form. Where the request left user or directory open, the agent
// records what it took.
func sameCommand(c *entry.Command, a approval.Approval) bool {
	want := entry.Command{Action: a.Action, User: a.Params.User, Argv: a.Params.Argv, Cwd: a.Params.Cwd}.Recorded()
	return c.Action == want.Action &&
		(want.User == "" || c.User == want.User) && (len(want.Cwd) == 0 || bytes.Equal(c.Cwd, want.Cwd)) &&
		slices.EqualFunc(c.Argv, want.Argv, func(x, y wire.Bytes) bool { return bytes.Equal(x, y) })
}

// finishHosts looks for chains that end before what their agent signed.
func (v *verifier) finishHosts() {
	byID := func(a, b key.ID) int { return bytes.Compare(a[:], b[:]) }
	for _, kid := range slices.SortedFunc(maps.Keys(v.hosts), byID) {
		h := v.hosts[kid]
		switch {
		case h.claim == nil || h.claim.reached:
		case h.claim.at > v.serverTime-skew(DeliveryGrace):
			v.report.Behind++
		default:
			v.found(-1, HeadMissing, "agent %s signed %d entries, %d are here", kid.ShortCode(), h.claim.seq, h.seq)
		}
	}
}

// idSet finds ids that occur twice. It keeps 16 bytes per entry: a keyed hash,
// which nobody can make collide without knowing the key, and the index.
type idSet struct {
	seed maphash.Seed
	list []idAt
}

type idAt struct {
	hash  uint64
	index int64
}

func (s *idSet) add(id wire.Nonce, index int64) {
	if s.list == nil {
		s.seed = maphash.MakeSeed()
	}
	s.list = append(s.list, idAt{maphash.Bytes(s.seed, id[:]), index})
}

// eachDouble calls each for every entry whose id an earlier one has.
func (s *idSet) eachDouble(each func(first, second int64)) {
	slices.SortFunc(s.list, func(a, b idAt) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.index, b.index)) })
	for i := 1; i < len(s.list); i++ {
		if s.list[i-1].hash == s.list[i].hash {
			each(s.list[i-1].index, s.list[i].index)
		}
	}
}
