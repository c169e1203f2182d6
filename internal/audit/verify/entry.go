package verify

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/consent"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/finding"
	"github.com/tucdesk/tucdesk/internal/audit/signers"
	"github.com/tucdesk/tucdesk/internal/wire"
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
	v.number(index, it.line.Index)
	e := &it.entry
	code, err := finding.BadEntry, it.err
	switch {
	case err == signers.ErrUnknown && v.unknown(index, it.said):
		return
	case err == signers.ErrUnknown:
		code = finding.BadSigner
	case err == nil && e.Team != v.report.Team:
		err = errors.New("entry of another team")
	}
	if err != nil {
		v.add(finding.Finding{Entry: index, Last: index, Code: code, Detail: err.Error(), Trace: finding.Trace{Unreadable: true}})
		return
	}
	v.ids.add(e.ID, index)
	if e.RosterVersion > v.report.RosterVersion {
		v.beyond(index, e.RosterVersion)
	}
	if a := v.signers.Agent(it.kid); a != nil {
		v.agentEntry(index, it, a, approvals)
		return
	}
	v.serverEntry(index, it)
	v.foundConsent(index, consent.Decided(v.history, &it.entry, approvals))
}

// compareKnown compares the tree with what the reader remembers.
func (v *verifier) compareKnown() {
	for len(v.known) > 0 && v.known[0].Size == v.tree.Size() {
		if v.known[0].Root != v.tree.Root() {
			v.add(finding.Finding{Entry: 0, Last: v.tree.Size() - 1, Code: finding.RootMismatch, Trace: finding.Trace{By: finding.ByMemory},
				Detail: fmt.Sprintf("a remembered checkpoint of %d entries has another root", v.tree.Size())})
		}
		v.known = v.known[1:]
	}
}

func (v *verifier) serverEntry(index int64, it *item) {
	e := &it.entry
	if e.Type.ByAgent() {
		v.found(index, finding.BadSigner, "a server signed what only an agent can say")
	}
	if e.Refusal == "" { // what was refused may be a stranger's
		v.target(e.Target.Agent)
	}
	v.tell(index, e)
	v.follow(index, v.chainOf(it.kid), it)
	if _, err := v.history.Audit(it.kid, e.Time.Time()); err != nil {
		v.found(index, finding.BadSigner, "%v", err)
	}
	switch {
	case e.Time < v.serverTime-skew(wire.ClockSkew):
		v.found(index, finding.BadTime, "earlier than the entries before it")
	case e.Time > wire.At(v.now)+skew(wire.ClockSkew):
		v.found(index, finding.BadTime, "in the future")
	case e.Time < v.aheadTime-skew(wire.RegistrationSkew+wire.ClockSkew):
		v.found(v.aheadEntry, finding.BadTime, "later than the log was at that place")
	}
	v.serverTime, v.aheadTime = max(v.serverTime, e.Time), 0
}

func (v *verifier) agentEntry(index int64, it *item, a *signers.Agent, approvals []statement.Signed) {
	e := &it.entry
	if !e.Type.ByAgent() {
		v.found(index, finding.BadSigner, "an agent signed what only a server can say")
	}
	c := v.chainOf(it.kid)
	before := c.time
	v.follow(index, c, it)
	if a.Claim != nil && e.Seq == a.Claim.Seq {
		if a.Claim.Hash != it.hash {
			v.forked(index, it.kid, a)
		}
		v.reached[it.kid] = true
	}
	// An agent can claim any time for its entry, but not a place in the log from
	// before its key was revoked.
	if err := v.history.Revoked(it.kid, max(e.Time, v.serverTime).Time()); err != nil {
		v.found(index, finding.BadSigner, "%v", err)
	}
	if a.NotAfter != 0 && e.Time >= a.NotAfter {
		v.found(index, finding.BadSigner, "the agent's certificate had ended")
	}
	if e.Time < before-skew(roster.MaxClockBack) {
		v.found(index, finding.BadTime, "earlier than the agent's entries before it")
	}
	if e.Time > wire.At(v.now)+skew(wire.RegistrationSkew) {
		v.found(index, finding.BadTime, "in the future")
	}
	if e.Time > v.aheadTime {
		v.aheadTime, v.aheadEntry = e.Time, index
	}
	v.session(index, e, it.kid)
	if e.Policy.Decision == entry.NeedsApproval && (e.Type == entry.SessionAccept || e.Type == entry.ExecStart) {
		v.foundConsent(index, consent.Approved(v.history, e, it.kid, approvals))
	}
}

// foundConsent reports what does not hold of the decisions beside an entry.
func (v *verifier) foundConsent(index int64, p consent.Problems) {
	each := func(code finding.Code, problems []string) {
		for _, problem := range problems {
			v.add(finding.Finding{Entry: index, Last: index, Code: code, Detail: problem, Trace: v.lacks.roster.trace(finding.Trace{})})
		}
	}
	each(finding.ApprovalInvalid, p.Invalid)
	each(finding.ApprovalMissing, p.Missing)
	each(finding.BadLine, p.Stray)
}

// chain is how far one signer's own chain has been followed.
type chain struct {
	order          // of the entries' numbers in it
	hash  key.Hash // of the last one in order
	time  wire.Millis
}

func (v *verifier) chainOf(kid key.ID) *chain {
	c := v.chains[kid]
	if c == nil {
		c = &chain{order: countFrom(1)}
		v.chains[kid] = c
	}
	return c
}

// follow checks the signer's own chain and goes on from where it really is, so
// that one missing entry is one finding.
func (v *verifier) follow(index int64, c *chain, it *item) {
	e := &it.entry
	last := c.next - 1
	p := c.take(bounded(int64(min(e.Seq, math.MaxInt64))), index, v.foundNext())
	f := finding.Finding{Entry: index, Last: index, Code: finding.ChainFork, Trace: p}
	switch {
	case p.Missing > 0:
		f.Code, f.Detail = finding.ChainGap, fmt.Sprintf("entries %d to %d of its signer are missing before this one", last+1, last+p.Missing)
	case p.Fills > 0:
		f.Detail = fmt.Sprintf("its signer's entry %d, out of order", e.Seq)
	case p.Again:
		f.Detail = fmt.Sprintf("its signer's entry %d again, or out of order", e.Seq)
	case e.Previous != c.hash:
		f.Detail = fmt.Sprintf("it follows another entry %d of its signer than the one here", last)
	}
	if f.Detail != "" {
		v.add(f)
	}
	if p.Fills == 0 && !p.Again {
		c.hash = it.hash
	}
	c.time = max(e.Time, c.time)
}

// finishAgents looks for chains that end before what their agent signed.
func (v *verifier) finishAgents() {
	byID := func(a, b key.ID) int { return bytes.Compare(a[:], b[:]) }
	agents := v.signers.Agents()
	for _, kid := range slices.SortedFunc(maps.Keys(agents), byID) {
		claim := agents[kid].Claim
		switch {
		case claim == nil || v.reached[kid]:
		case claim.At > v.serverTime-skew(DeliveryGrace):
			v.report.Behind++
		default:
			text := ""
			if at := v.told[kid].forked; at > 0 { // a server can write that to hide what it withholds
				text = fmt.Sprintf("; by the server's alarm in entry %d its own chain forked, so they may be of another one, or withheld: nothing here tells which", at-1)
			}
			v.found(-1, finding.HeadMissing, "%s signed %d entries, %d are here%s", machine(kid, agents[kid]), claim.Seq, v.chainOf(kid).next-1, text)
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
