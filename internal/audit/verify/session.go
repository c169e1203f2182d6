package verify

import (
	"hash/maphash"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/finding"
)

// session follows what an agent says of its sessions. An id that is accepted
// again for another request is a new session: the agent was killed in the first.
//
// Operators draw session ids, and nobody keeps one of them from giving two agents the
// same: that is no fault of the log, and must not become a finding that stays for ever.
// So a session is one at an agent. An agent can begin any number of them and end none,
// and no entry says that the rest is over; they are kept as two keyed hashes, which
// nobody can make collide without knowing the key (attack N6).
func (v *verifier) session(index int64, e *entry.Entry, agent key.ID) {
	at := maphash.Bytes(v.seed, append(agent[:], e.Session[:]...))
	hash := maphash.Bytes(v.seed, e.RequestHash[:])
	request, open := v.sessions[at]
	switch e.Type {
	case entry.SessionAccept:
		if open && request == hash {
			v.found(index, finding.BadSession, "the session was accepted before")
		}
		v.sessions[at] = hash
	case entry.SessionEnd:
		if !open {
			v.found(index, finding.BadSession, "the session ends without a start at this agent")
		}
		delete(v.sessions, at)
	case entry.ExecStart, entry.ExecEnd, entry.ChannelOpen: // the approvals of the last are those of its session's start
		if !open {
			v.found(index, finding.BadSession, "a command, a connection or a copy outside of a session at this agent")
		}
	case entry.SpoolGap:
		if e.Gap != nil && e.Gap.Open {
			v.report.Gaps++
		}
	}
}
