package rendezvous

import (
	"maps"
	"sync"
)

// counters are the server's metrics: named by us, so their number is bounded by
// our code and by the closed set of refusal codes.
type counters struct {
	mu sync.Mutex // guards n
	n  map[string]uint64
}

func (s *Server) count(name string) { s.metrics.add(name, 1) }

func (c *counters) add(name string, by uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]uint64{}
	}
	c.n[name] += by
}

// Snapshot returns the counters since the start of the process: "answered",
// "refused_<code>" for every refusal of ours, "refused_by_agent", "panic", "registered",
// "displaced", "frames", and "connected", the agents there are now.
func (s *Server) Snapshot() map[string]uint64 {
	s.metrics.mu.Lock()
	all := maps.Clone(s.metrics.n)
	s.metrics.mu.Unlock()
	if all == nil {
		all = map[string]uint64{}
	}
	all["connected"] = uint64(s.bus.Len())
	return all
}
