package verify

import (
	"fmt"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/finding"
	"github.com/tucdesk/tucdesk/internal/audit/signers"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// told is what servers said of one machine, by the entries in which they did. It makes
// what a machine's own signatures prove easier to read and excuses nothing: a server that
// lies can write any of it.
type told struct {
	forked  int64 // 1 and the index of the last alarm that its own chain forked, 0 without one
	deleted int64 // 1 and the index of where it was taken out of the registry, 0 where it was not
}

// ownFork is a machine that signed two chains.
type ownFork struct {
	kid    key.ID
	listed int // index of its finding
}

// tell remembers what a server says of a machine. No more than maxTargets are.
func (v *verifier) tell(index int64, e *entry.Entry) {
	kid := e.Target.Agent
	t, known := v.told[kid]
	if !known && len(v.told) >= maxTargets {
		return
	}
	switch {
	case e.Type == entry.AgentDelete && e.Refusal == "":
		t.deleted = index + 1
	case e.Type == entry.Alarm && e.Refusal == refusal.AuditFork:
		t.forked = index + 1
	default:
		return
	}
	v.told[kid] = t
}

// forked is an entry in the place of which the machine signed another one. Both
// signatures are the machine's, so it is nothing that a server, or whoever had the
// export, can have done: told apart from all that they can do.
func (v *verifier) forked(index int64, kid key.ID, a *signers.Agent) {
	if next := v.foundNext(); next > 0 {
		v.forks = append(v.forks, ownFork{kid, next - 1})
	}
	v.add(finding.Finding{Entry: index, Last: index, Code: finding.ChainFork, Trace: finding.Trace{Own: true},
		Detail: fmt.Sprintf("%s itself signed another entry %d than this", machine(kid, a), a.Claim.Seq)})
}

// finishForks says what became of the machines that signed two chains, which stands
// further down in the log.
func (v *verifier) finishForks() {
	for _, f := range v.forks {
		t := v.told[f.kid]
		text := "; the server set no alarm"
		if t.forked > 0 {
			text = fmt.Sprintf("; the server's alarm is entry %d", t.forked-1)
		}
		switch err := v.history.Revoked(f.kid, v.now); {
		case err != nil:
			text += ", and the roster has revoked its key since"
		case t.deleted > 0:
			text += fmt.Sprintf(", and entry %d says that the machine was removed", t.deleted-1)
		default:
			text += ", and the machine was not removed"
		}
		v.report.Findings[f.listed].Detail += ": its disk was set back, it was cloned, or its key was stolen" + text
	}
}

// machine names a machine as its certificate does, which allows no markup.
func machine(kid key.ID, a *signers.Agent) string {
	return fmt.Sprintf("machine %s (%s)", a.Name, kid.ShortCode())
}
