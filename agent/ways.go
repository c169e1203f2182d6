package agent

import (
	"encoding/json"
	"sync"

	"github.com/tucdesk/tucdesk/internal/keyfile"
	"github.com/tucdesk/tucdesk/internal/link"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// waysFile keeps which way to a relay worked last in which network, so that the next
// session begins with it: behind a firewall that lets little through, each session
// would find that out anew while its operator waits.
const waysFile = "networks.json"

// maxWays bounds what one session process may say of it; our choice. An honest one
// stops earlier (package worker).
const maxWays = 64

// ways is that file. Session processes say what goes into it, which may be lies: it
// decides what is tried first, a few milliseconds, and nothing else. They say it of
// the network that the machine is in, and hear of no other.
type ways struct {
	path string
	mu   sync.Mutex // serialises what is done to the file
}

// last is by what a relay was reached last in the present network, "" if nobody
// knows. A damaged file is no memory.
func (w *ways) last() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.readLocked().Load(link.CurrentNetwork()))
}

func (w *ways) readLocked() (list link.Networks) {
	text, err := keyfile.ReadPrivate(w.path, link.MaxNetworksFile)
	if err != nil || json.Unmarshal(text, &list) != nil {
		return nil
	}
	return list.Clean()
}

// store notes what worked in the present network.
func (w *ways) store(kind link.Kind) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	list, changed := w.readLocked().With(link.CurrentNetwork(), kind)
	if !changed {
		return nil
	}
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return keyfile.WriteAtomic(w.path, append(text, '\n'), 0o600)
}

// reached hears by what the session's process has reached a relay.
func (s *live) reached(body []byte) error {
	kind := link.Kind(body)
	if s.told++; s.told > maxWays || !kind.Valid() {
		return refusal.New(refusal.ProtocolError, "the session process reports what cannot be")
	}
	if err := s.agent.ways.store(kind); err != nil {
		s.agent.log.Warn("remembering the way to a relay", "err", err) // it is learnt again
	}
	return nil
}
