package guard

import "sync/atomic"

// Reason says why a frame was refused. It is the error of Check; the zero value
// is never returned as an error.
type Reason uint8

// The reasons, in the order in which they are looked for.
const (
	_            Reason = iota
	WrongSource         // not from the chosen relay (client side)
	BadLength           // too short, too long, or not the length it announces
	BadType             // neither STUN nor ChannelData, or a wrong magic cookie
	BadAttribute        // an attribute leaves the message or has an impossible size or family
	Duplicate           // an attribute that may come once came twice
	TooMany             // more than MaxAttributes attributes
	BadOrder            // something behind the integrity or fingerprint attribute
	Missing             // an indication without its peer address or data
	Unexpected          // a message type this side never receives
	Ambiguous           // ChannelData whose payload a STUN parser would take for a message
	NotPaired           // a peer, channel or feature the paired relay does not have
	TooSlow             // a stream that did not complete a frame in time
	TooManyConns        // over the total or per-source cap of connections
	reasonCount
)

var reasonText = [reasonCount]string{
	WrongSource: "wrong_source", BadLength: "bad_length", BadType: "bad_type",
	BadAttribute: "bad_attribute", Duplicate: "duplicate_attribute", TooMany: "too_many_attributes",
	BadOrder: "bad_order", Missing: "missing_attribute", Unexpected: "unexpected_type",
	Ambiguous: "ambiguous", NotPaired: "not_paired", TooSlow: "too_slow", TooManyConns: "too_many_connections",
}

// String returns the stable name of the reason, as used in metrics.
func (r Reason) String() string {
	if r == 0 || r >= reasonCount {
		return "unknown"
	}
	return reasonText[r]
}

// Error makes a Reason an error. The text is the stable name only: what a
// stranger sent is never echoed.
func (r Reason) Error() string { return "guard: frame refused: " + r.String() }

// Stats counts refused frames by reason. The zero value is ready; all methods
// may be called from any goroutine, and on a nil Stats, which counts nothing.
type Stats struct {
	drops [reasonCount]atomic.Uint64
}

// Count adds one refusal.
func (s *Stats) Count(r Reason) {
	if s != nil && r < reasonCount {
		s.drops[r].Add(1)
	}
}

// Drops returns how many frames were refused for r.
func (s *Stats) Drops(r Reason) uint64 {
	if s == nil || r >= reasonCount {
		return 0
	}
	return s.drops[r].Load()
}

// Snapshot returns the counters that are not zero, by name of the reason. The
// caller owns the map.
func (s *Stats) Snapshot() map[string]uint64 {
	m := make(map[string]uint64)
	if s == nil {
		return m
	}
	for r := range reasonCount {
		if n := s.drops[r].Load(); n > 0 {
			m[r.String()] = n
		}
	}
	return m
}

func (s *Stats) countErr(err error) {
	if r, ok := err.(Reason); ok {
		s.Count(r)
	}
}
