package verify

import (
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/entry"
	"github.com/tucdesk/tucdesk/internal/audit/finding"
	"github.com/tucdesk/tucdesk/internal/wire"
)

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
			v.found(index, finding.BadSession, "the session was accepted before")
		}
		v.sessions[at] = e.RequestHash
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
