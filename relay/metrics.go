package relay

import "sync/atomic"

// event is something worth counting that is not a refused frame: those are
// counted by guard.Stats.
type event uint8

const (
	evAllocated     event = iota
	evRefreshed           // allocation prolonged
	evEnded               // allocation gone, whatever the cause
	evExpired             // ended by the expiry of its credential
	evLapsed              // ended because it was not refreshed
	evIdle                // ended for lack of data
	evRateLimited         // control message over its source's or the global rate
	evAmplification       // answer withheld: larger than the source had earned
	evQueueFull           // control message while pion was busy, or stream that does not drain
	evForeignUser         // request of another user on an allocation's 5-tuple (T4)
	evBadUser             // user name that no rendezvous makes
	evStaleUser           // expired, or too long-lived
	evBadPassword         // right form, wrong key
	evTakenOver           // allocation replaced by a newer one of the same user
	evReplayed            // request older than the allocation it would replace
	evTakeOvers           // take-over refused: too many
	evQuotaTotal          // allocation over the total
	evQuotaSource         // allocation over its network's share
	evNotBound            // ChannelData without allocation or channel
	evNoPeer              // data while the other side is not there
	evWrongPeer           // data for an address that is not the pair's
	evByteQuota           // data over the byte quota
	evByteRate            // data over the rate
	evHandshake           // TLS handshake that did not end well
	evUpgrade             // HTTP request that became no WebSocket
	evSendFailed          // the system refused to send
	evMismatch            // request and callback disagree: a defect of ours
	eventCount
)

var eventText = [eventCount]string{
	"allocated", "refreshed", "ended", "expired", "lapsed", "idle", "rate_limited", "amplification", "queue_full",
	"foreign_user", "bad_user", "stale_user", "bad_password", "taken_over", "replayed", "take_overs",
	"quota_total", "quota_source", "not_bound", "no_peer", "wrong_peer", "byte_quota", "byte_rate", "handshake", "upgrade", "send_failed", "mismatch",
}

type metrics struct {
	events        [eventCount]atomic.Uint64
	frames, bytes atomic.Uint64
}

func (m *metrics) count(e event) { m.events[e].Add(1) }

func (m *metrics) countN(e event, n int) { m.events[e].Add(uint64(n)) }

// Snapshot is the state of a relay at one moment. The names of Events are
// stable; a name that is missing has not happened.
type Snapshot struct {
	Allocations int    // live allocations
	Pairs       int    // of which both sides are there
	Connections int    // open stream connections
	Frames      uint64 // datagrams forwarded since the start
	Bytes       uint64 // their payload bytes, padding included
	// Events counts what happened, and Drops the frames the guard refused, both
	// since the start and by name.
	Events, Drops map[string]uint64
}

// Snapshot returns the relay's counters. The caller owns the maps.
func (s *Server) Snapshot() Snapshot {
	snap := Snapshot{
		Connections: s.openConns(),
		Frames:      s.metrics.frames.Load(),
		Bytes:       s.metrics.bytes.Load(),
		Events:      make(map[string]uint64),
		Drops:       s.drops.Snapshot(),
	}
	snap.Allocations, snap.Pairs = s.table.size()
	for e := range eventCount {
		if n := s.metrics.events[e].Load(); n > 0 {
			snap.Events[eventText[e]] = n
		}
	}
	return snap
}
