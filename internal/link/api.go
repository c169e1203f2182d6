package link

import paths "github.com/tucdesk/tucdesk/internal/path"

// The further kinds of relay.
const (
	RelayTLS       Kind = "relay-tls"
	RelayDTLS      Kind = "relay-dtls"
	RelayWebSocket Kind = "relay-ws"
)

// Datagram is one datagram from the other end, or from whoever says so.
type Datagram struct {
	Via paths.Via // how it came
	B   []byte
}

// RelayState is one relay of the credential and how we reach it.
type RelayState struct {
	Via  paths.Via
	Kind Kind   // in use, or last used; "" before the first success
	Name string // "host:port" of that kind, or the first of the endpoint
	Up   bool   // datagrams can be sent; whether the other end is there nobody knows
	Err  error  // why it is not up; nil if it is, or was never tried
}

// Memory keeps which kind of way to a relay worked last in which network, so that
// the next link begins with it. It is a hint: what it says is tried first, no
// more. Its methods are called from any goroutine.
type Memory interface {
	// Load returns "" for a network that it does not know.
	Load(network string) Kind
	// Store need not keep anything for ever.
	Store(network string, k Kind)
}
