package path

import (
	"net/netip"
	"time"
)

// Size is the length in bytes of the longest sealed datagram that every path has to carry:
// 1,248 passes every usual one without fragments (design 4.2). Longer ones go where a probe
// of their length was answered, see Wide and Large.
const Size = 1248

// Status describes one path, for people and for tests.
type Status struct {
	Via       Via
	Kind      Kind          // how the address is known; zero for relays
	Chosen    bool          // data goes here
	Up        bool          // the allocation or a socket exists
	Live      bool          // data could go here now
	Validated bool          // the peer answered here and was not silent since
	SRTT      time.Duration // 0: not measured
	MinRTT    time.Duration
	Heard     time.Time // zero is never
	Answered  time.Time // zero is never
	In, Out   uint64    // bytes of datagrams, without headers of IP, UDP and relay
	// Challenges went out on this path, and Unanswered of them got no answer before
	// a younger one did: an estimate of what the path loses, both ways together.
	Challenges, Unanswered uint64
	Observed               netip.AddrPort // where the peer saw us on this path last; says which NAT is in between
	Why                    string         // of the chosen path: why; of others: why not
}

// Status describes every path as it was at the last call, the chosen one first.
func (m *Manager) Status() []Status {
	out := make([]Status, 0, len(m.paths))
	for _, p := range m.paths {
		s := Status{
			Via: p.via, Kind: p.kind, Chosen: p == m.best, Up: p.up, Live: p.usable() && (p == m.best || p.rank != unranked), Validated: p.proven,
			SRTT: p.rtt.smooth, MinRTT: p.rtt.least, Heard: p.heard, Answered: p.answered,
			In: p.in, Out: p.out, Challenges: p.challenges, Unanswered: p.unanswered, Observed: p.observed, Why: m.explain(p),
		}
		out = append(out, s)
		if s.Chosen {
			out[0], out[len(out)-1] = out[len(out)-1], out[0]
		}
	}
	return out
}

func (m *Manager) explain(p *path) string {
	switch {
	case p == m.best:
		return m.why
	case !p.up:
		return "down"
	case p.dead:
		return "silent"
	case p.known && !p.proven:
		return "to be checked again"
	case !p.proven:
		return "no answer yet"
	case p.rank == unranked:
		return "in doubt"
	case m.best == nil:
		return ""
	case p.via.Relayed() && !m.best.via.Relayed():
		return "a relay; there is a direct path"
	case p.losses > 0 && p.holdUpto.After(later(p.heard, p.answered)):
		return "failed lately"
	}
	return "not better by enough"
}
