// Package gossip remembers what the servers of a team showed of their logs, and holds
// what they show now against it: a log only grows, and everybody is shown the same
// one. Evidence that it is not so stays on the disk, and no session begins any more.
//
// Source: protocol 5.3.
package gossip

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tucdesk/tucdesk/agent/trust"
	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/internal/audit/checkpoint"
	"github.com/tucdesk/tucdesk/internal/audit/witness"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// Memory is one agent's, for each log by its origin. What one server showed says
// nothing of another's log. It is safe for concurrent use.
type Memory struct {
	dir      string
	keeper   *trust.Keeper
	identity key.Private[key.Agent]
	log      *slog.Logger

	mu   sync.Mutex
	list map[string]*witness.Witness // guarded by mu

	// What the server of this connection shows; guarded by mu.
	server   key.ID
	size     int64 // when it was last known to have been shown; the server's next proof starts there
	cosigned int64 // size of the checkpoint that was cosigned last
}

// Open reads from dir what is remembered of every server in the roster, so that
// evidence against one of them holds from the first moment on. identity cosigns.
func Open(dir string, keeper *trust.Keeper, identity key.Private[key.Agent], log *slog.Logger) (*Memory, error) {
	m := &Memory{dir: dir, keeper: keeper, identity: identity, log: log, list: map[string]*witness.Witness{}}
	t, _ := keeper.Get()
	for _, s := range t.Roster.Roster().Servers {
		if _, err := m.of(checkpoint.Origin(s.Name, t.Roster.Team())); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// prefix begins the name of each log's file, before 16 hex digits of the hash of the
// log's name.
const prefix = "witness-"

// Path is where the log called origin is remembered.
func Path(dir, origin string) string {
	h := sha256.Sum256([]byte(origin))
	return filepath.Join(dir, prefix+hex.EncodeToString(h[:8])+".json")
}

// of returns the memory of one log. A server that is new in the roster gets one when
// it is first met.
func (m *Memory) of(origin string) (*witness.Witness, error) {
	if known := m.known(origin); known != nil {
		return known, nil
	}
	opened, err := witness.Open(Path(m.dir, origin), origin) // without the lock: a disk may be slow
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.list[origin]; known != nil { // another was faster, and its memory may be newer by now
		return known, nil
	}
	if err != nil {
		return nil, err
	}
	m.list[origin] = opened
	return opened, nil
}

func (m *Memory) known(origin string) *witness.Witness {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.list[origin]
}

// Err returns why no session may begin: there is evidence against a server of this
// team, or nobody can say whether there is. What cannot be read is tried again each
// time, for each server of the roster by itself: another one's memory says nothing of
// it, and it ends when a person has mended the file or an owner has taken the server
// out.
func (m *Memory) Err() error {
	var err error
	t, _ := m.keeper.Get()
	for _, s := range t.Roster.Roster().Servers {
		_, unknown := m.of(checkpoint.Origin(s.Name, t.Roster.Team()))
		err = errors.Join(err, unknown)
	}
	for _, known := range m.all() {
		err = errors.Join(err, known.Err())
	}
	if err != nil && refusal.Of(err) == "" {
		return refusal.New(refusal.AuditFork, "what was seen of a server's log cannot be read")
	}
	return err
}

func (m *Memory) all() []*witness.Witness {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.list))
}

// shown returns the memory of the log on this connection and the key that signs it.
func (m *Memory) shown() (*witness.Witness, string, key.Public[key.Audit], error) {
	m.mu.Lock()
	access := m.server
	m.mu.Unlock()
	t, _ := m.keeper.Get()
	server, err := t.Roster.Server(access)
	if err != nil {
		return nil, "", key.Public[key.Audit]{}, err // not in the roster any more: nothing it shows would be believed
	}
	origin := checkpoint.Origin(server.Name, t.Roster.Team())
	w, err := m.of(origin)
	return w, origin, server.Keys.Audit, err
}

// Begin says which size of its log the server will be told to have been seen
// here, at the begin of a connection to it.
func (m *Memory) Begin(server key.ID) (size int64) {
	m.begin(server, 0)
	w, _, _, err := m.shown()
	if err != nil {
		return 0
	}
	size = w.Size()
	m.begin(server, size)
	return size
}

func (m *Memory) begin(server key.ID, size int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.server, m.size, m.cosigned = server, size, 0
}

func (m *Memory) set(size int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.size = size
}

func (m *Memory) is(size int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.size == size
}

// Take takes a checkpoint of the team's log (protocol 5.3), and returns it when it
// is verified and remembered. The server knows from registration what was seen here,
// so a newer one without a proof is as bad as one with a wrong proof. Only when this
// side could not store what it was shown does the next proof start elsewhere; then
// the next connection sorts it out.
func (m *Memory) Take(g wire.AuditGossip) (c checkpoint.Checkpoint, verified bool) {
	if g.Checkpoint == "" {
		return c, false
	}
	w, origin, by, err := m.shown()
	if err != nil {
		return c, false
	}
	if c, _, err = checkpoint.Open(g.Checkpoint, origin, by); err != nil {
		m.log.Warn("the server showed a checkpoint that is not signed rightly", "err", err)
		return c, false
	}
	known := w.Size()
	if known > 0 && c.Size > known && !m.is(known) {
		m.set(c.Size)
		return c, false
	}
	err = w.Update(g, by)
	m.set(c.Size) // also when it could not be stored: the next proof starts here
	switch {
	case refusal.Of(err) == refusal.AuditFork:
		m.log.Error("the server shows different logs", "err", err)
	case err != nil:
		m.log.Error("storing what the server showed of the log", "err", err)
	}
	return c, err == nil
}

// Accuse keeps what the server said, beside the checkpoint that it does not fit to.
func (m *Memory) Accuse(k wire.AuditAck, lie error) {
	w, _, _, err := m.shown()
	if err != nil {
		return
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%v\nentries from %d on:\n", lie, k.First)
	for _, p := range k.Proofs {
		fmt.Fprintf(&text, "at %d:", p.Index)
		for _, h := range p.Path {
			text.WriteString(" " + h.String())
		}
		text.WriteString("\n")
	}
	if err := w.Accuse(text.String()); err != nil {
		m.log.Error("no session begins here until a person has looked", "err", err)
	}
}

// Cosign says of the newest verified checkpoint that it was seen, once on each
// connection.
func (m *Memory) Cosign() wire.Cosignature {
	w, _, _, err := m.shown()
	if err != nil {
		return wire.Cosignature{}
	}
	size := w.Size()
	m.mu.Lock()
	done := m.cosigned >= size || m.size != size
	m.mu.Unlock()
	if done {
		return wire.Cosignature{}
	}
	k, err := witness.Cosign(w, m.identity, time.Now())
	if err != nil {
		return wire.Cosignature{} // evidence: it was said when it was found
	}
	m.mu.Lock()
	m.cosigned = k.Size
	m.mu.Unlock()
	return k
}
