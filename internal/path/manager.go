package path

import (
	"net/netip"
	"time"
)

// Config is what a Manager is made of.
type Config struct {
	// Operator is set at the operator's end, which keeps idle paths alive so that
	// not both have to.
	Operator bool
	// Token returns 64 random bits, never the same twice.
	Token func() uint64
	// Loopback allows direct paths to loopback addresses: test rigs.
	Loopback bool
	// Forbid, when set, names addresses that are never probed beside those that
	// this package refuses itself: the relays' own and local broadcast addresses.
	Forbid func(netip.AddrPort) bool
	// Now is the time at which the session begins.
	Now time.Time
}

// State says how sure the sending path is.
type State uint8

// The states.
const (
	Gone     State = iota // no path is known to work
	Doubtful              // data goes to both paths that Best returned
	Good                  // data goes to the first path
)

// Probe is a frame that the caller seals, alone in a datagram, and sends.
type Probe struct {
	Via  Via
	Type byte   // frame type, 0x90 to 0x93
	Body []byte // the caller's
	Size int    // length that the datagram is padded to; 0 is none
}

// Manager keeps the paths of one session. It is not safe for concurrent use; now
// must not go backwards.
type Manager struct {
	cfg Config
}

// New returns a manager that knows no path yet.
func New(cfg Config) *Manager { return &Manager{cfg: cfg} }

// SetRelay says that the allocation on a relay works, or no longer does.
func (m *Manager) SetRelay(v Via, up bool, now time.Time) {}

// SetLocal replaces the addresses at which this end may be reached.
func (m *Manager) SetLocal(local []Candidate, now time.Time) {}

// Received notes an authentic datagram of bytes length that came by v: newest
// when it carries the highest counter so far, data when it held a packet. Call
// it before Frame for the frames of the same datagram.
func (m *Manager) Received(v Via, bytes int, newest, data bool, now time.Time) {}

// Frame takes a path frame of a datagram that came by v. An error is the peer's
// fault and ends the session: refusal.ProtocolError.
func (m *Manager) Frame(v Via, typ byte, body []byte, now time.Time) error { return nil }

// Sent notes data of bytes length that went out by v.
func (m *Manager) Sent(v Via, bytes int, now time.Time) {}

// Wake says that the machine slept or the network changed.
func (m *Manager) Wake(now time.Time) {}

// Best returns where data goes.
func (m *Manager) Best(now time.Time) (first, second Via, state State) { return Via{}, Via{}, Gone }

// Poll returns what is to be sent now.
func (m *Manager) Poll(now time.Time) []Probe { return nil }

// Next returns when Poll is to be called at the latest; zero is never. It may
// change with every other call.
func (m *Manager) Next() time.Time { return time.Time{} }

// Status describes every path, the chosen one first.
func (m *Manager) Status() []Status { return nil }

// Status describes one path.
type Status struct {
	Via       Via
	Kind      Kind // zero for relays
	Chosen    bool
	Live      bool
	Validated bool
	SRTT      time.Duration
	RTTVar    time.Duration
	MinRTT    time.Duration
	Heard     time.Time
	In, Out   uint64
	Size      int
	Observed  netip.AddrPort
	Why       string
}
