package wire

import (
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
)

// Lifetimes and clock differences that a checker allows.
const (
	RequestLifetime      = 60 * time.Second  // session request that waits for nobody (protocol 2.3)
	GatedRequestLifetime = 10 * time.Minute  // session request that waits for an approval (protocol 2.3)
	RegistrationSkew     = 120 * time.Second // agent's clock against the server's (protocol 2.11)
	ProofSkew            = 60 * time.Second  // operator's clock against the server's (protocol 4.2)
	GrantLifetime        = 60 * time.Second  // our choice: an agent answers at once or not at all
	ClockSkew            = 60 * time.Second  // between any two ends, when checking issue times; our choice
)

// Action is what a session is for.
type Action string

// The actions that exist.
const (
	Shell Action = "shell" // a login shell, or one command line that the user's shell reads
	Exec  Action = "exec"  // exactly one argument vector, once
	// Copy and Forward take the user alone: what is read, written, reached or
	// listened at is said later, and judged by the agent each time.
	Copy    Action = "copy"    // files, by the SFTP protocol
	Forward Action = "forward" // any number of connections

	Ping Action = "ping" // nothing runs: the session only shows that the host is there, and by which way; Params are empty
)

// Request is the session request, signed by the operator (protocol 2.3). It is
// also the proof of what the operator wanted: the agent runs what stands here
// and nothing else.
type Request struct {
	ID            Nonce     `json:"jti"`
	IssuedAt      Millis    `json:"iat"`
	ExpiresAt     Millis    `json:"exp"`
	Team          TeamID    `json:"team"`
	Session       SessionID `json:"session"`
	Operator      key.ID    `json:"operator"`
	Agent         key.ID    `json:"agent"`
	RosterVersion uint64    `json:"rosterVersion"`
	RosterHash    key.Hash  `json:"rosterHash"`
	PolicyHash    key.Hash  `json:"policyHash"`
	Suites        []uint16  `json:"suites"`    // in order of preference
	Protocols     []uint16  `json:"protocols"` // versions offered, see SessionProtocol
	Eph           key.Hash  `json:"eph"`       // H(E_o ‖ [ek]): ties OPEN to this request
	Action        Action    `json:"action"`
	Params        Params    `json:"params"`
	Reason        string    `json:"reason"`
}

// SessionProtocol is what this program speaks inside the seal, in Request.Protocols
// and in the flags of ACCEPT (protocol 2.5): 1 carried its streams by QUIC, 2 by
// internal/transport. Packets of another version are nothing but silence to an end, so
// whatever both cannot read alike raises it. Both numbers are signed, so that nobody
// in between can talk two new ends down.
const SessionProtocol uint16 = 2

// Kind says how a Request is signed; protocol 4.1 caps it at 64 KiB.
func (Request) Kind() statement.Kind {
	return statement.Kind{Type: "tucdesk/session-request/v1", MaxSize: 64 << 10}
}

// Params are the exact parameters of the action.
type Params struct {
	User string   `json:"user"`           // login name at the target; "" is the agent's own user
	Argv []Bytes  `json:"argv"`           // Exec: the arguments; Shell: none, or one command line for the user's shell
	Cwd  Bytes    `json:"cwd"`            // "" is the user's home
	Env  []EnvVar `json:"env"`            // additions to the fixed base environment
	TTY  bool     `json:"tty"`            // on a pseudo-terminal
	Keep *Keep    `json:"keep,omitempty"` // Shell: one that outlives its session; left out of the encoding when nil, as requests were before it existed
}

// Empty reports whether p asks for nothing, as the parameters of a ping must.
func (p Params) Empty() bool {
	return p.User == "" && len(p.Argv) == 0 && len(p.Cwd) == 0 && len(p.Env) == 0 && !p.TTY && p.Keep == nil
}

// EnvVar is one addition to the environment.
type EnvVar struct {
	Name  string `json:"name"`
	Value Bytes  `json:"value"`
}

// Grant is the rendezvous' consent to one request (protocol 3.2). It cannot
// open anything: the agent asks for it as well as for everything else.
type Grant struct {
	ID          Nonce    `json:"jti"`
	IssuedAt    Millis   `json:"iat"`
	ExpiresAt   Millis   `json:"exp"`
	Team        TeamID   `json:"team"`
	RequestHash key.Hash `json:"requestHash"`
	Agent       key.ID   `json:"agent"`
	Rule        string   `json:"rule"` // rule of the policy that allowed it
	PolicyHash  key.Hash `json:"policyHash"`
	Relay       Relay    `json:"relay"`
}

// Kind says how a Grant is signed.
func (Grant) Kind() statement.Kind {
	return statement.Kind{Type: "tucdesk/grant/v1", MaxSize: 16 << 10}
}

// Relay is where one side of one session allocates (protocol 6.2). The two
// sides get different user names of one pair.
type Relay struct {
	Endpoints []RelayEndpoint `json:"endpoints"` // in order of preference, at most MaxRelayEndpoints
	Username  string          `json:"username"`
	Password  Bytes           `json:"password"` // 32 bytes; a secret of this session
	ExpiresAt Millis          `json:"exp"`
}

// MaxRelayEndpoints bounds what one grant may list; our choice.
const MaxRelayEndpoints = 8

// RelayEndpoint is one relay process and the transports that lead to it; each is
// "host:port" or "".
type RelayEndpoint struct {
	UDP       string   `json:"udp"`
	TCP       string   `json:"tcp"`
	TLS       string   `json:"tls"`  // over TCP
	DTLS      string   `json:"dtls"` // over UDP
	WebSocket string   `json:"ws"`   // HTTPS, path /relay
	Key       key.Hash `json:"key"`  // SHA-256 of the SubjectPublicKeyInfo behind TLS, DTLS and WebSocket; zero when there is none of them
}

// Login is signed by the operator to get a JWT (issue: proof of the roster key).
type Login struct {
	ID       Nonce    `json:"jti"`
	IssuedAt Millis   `json:"iat"`
	Team     TeamID   `json:"team"`
	Audience key.ID   `json:"aud"`     // the rendezvous' access key
	Channel  key.Hash `json:"channel"` // TLS exporter of this connection
}

// Kind says how a Login is signed.
func (Login) Kind() statement.Kind {
	return statement.Kind{Type: "tucdesk/login/v1", MaxSize: 4 << 10}
}

// Proof is signed by the operator for one sensitive call (protocol 4.2) and
// travels base64url-encoded in the header ProofHeader.
type Proof struct {
	ID       Nonce        `json:"jti"`
	IssuedAt Millis       `json:"iat"`
	Audience string       `json:"aud"` // "<access kid>@<host:port>" as dialled
	Method   string       `json:"htm"`
	Target   string       `json:"htu"` // path and raw query exactly as sent
	Body     key.Hash     `json:"bh"`  // SHA-256 of the raw body, also when empty
	Token    key.Hash     `json:"ath"` // SHA-256 of the JWT
	Session  SessionID    `json:"sid"` // zero when the call names none
	Context  ProofContext `json:"ctx"`
}

// ProofContext repeats what the handler will do, so that a proof signed for one
// act cannot be spent on another with the same bytes.
type ProofContext struct {
	Action      string   `json:"action"`
	Agent       key.ID   `json:"agent"` // zero when the call names none
	Team        TeamID   `json:"team"`
	RequestHash key.Hash `json:"requestHash"` // zero when there is none
}

// Kind says how a Proof is signed; protocol 4.1 caps it at 4 KiB.
func (Proof) Kind() statement.Kind {
	return statement.Kind{Type: "tucdesk/proof/v1", MaxSize: 4 << 10}
}

// ProofHeader carries a Proof.
const ProofHeader = "Tucdesk-Proof"

// Registration is signed by the agent as the first word on its control channel
// (protocol 2.11).
type Registration struct {
	ID            Nonce                 `json:"jti"`
	IssuedAt      Millis                `json:"iat"`
	Team          TeamID                `json:"team"`
	Agent         key.Public[key.Agent] `json:"agent"`
	Certificate   key.Hash              `json:"certificate"` // hash of the agent certificate statement
	Server        key.ID                `json:"server"`      // the rendezvous' access key
	Channel       key.Hash              `json:"channel"`     // TLS exporter of this connection
	ClientVersion string                `json:"clientVersion"`
	AuditSeq      uint64                `json:"auditSeq"`  // last entry of the agent's own chain
	AuditHead     key.Hash              `json:"auditHead"` // its hash
}

// Kind says how a Registration is signed.
func (Registration) Kind() statement.Kind {
	return statement.Kind{Type: "tucdesk/register/v1", MaxSize: 4 << 10}
}

// ExporterLabel and 32 bytes bind a registration or login to its TLS
// connection (RFC 9266).
const ExporterLabel = "EXPORTER-Channel-Binding"
