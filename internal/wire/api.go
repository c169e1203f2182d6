package wire

import (
	"errors"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// The routes. "J" wants a JWT, "P" a JWT and a proof.
const (
	PathHealth     = "/healthz"                         // GET
	PathSetup      = "/v1/setup"                        // POST SetupRequest; gone once its code is used
	PathLogin      = "/v1/login"                        // POST LoginRequest -> LoginReply
	PathLogout     = "/v1/logout"                       // P POST; the token it comes with is worthless afterwards
	PathRoster     = "/v1/roster"                       // J GET ?from=VERSION -> RosterNews; P POST RosterPublish
	PathOffer      = "/v1/roster/offer"                 // POST RosterPublish without a login: the owners' signatures prove it
	PathTokens     = "/v1/tokens"                       // J GET -> TokenList; P POST TokenPublish
	PathAgents     = "/v1/agents"                       // J GET -> AgentList
	PathAgent      = "/v1/agents/{agent}"               // P DELETE
	PathSessions   = "/v1/sessions"                     // P POST SessionOpen -> SessionReply
	PathRelay      = "/v1/sessions/{session}/relay"     // P POST RelayWant -> RelayRenewed
	PathEnd        = "/v1/sessions/{session}/end"       // J GET ?agent=ID -> SessionEnded
	PathRelayCheck = "/v1/relay/check"                  // P POST -> RelayChecked
	PathRequests   = "/v1/requests"                     // J GET -> RequestList
	PathRequest    = "/v1/requests/{request}"           // J GET ?wait=SECONDS -> RequestInfo
	PathApprovals  = "/v1/requests/{request}/approvals" // P POST ApprovalPublish -> RequestInfo
	PathCancel     = "/v1/requests/{request}/cancel"    // P POST -> RequestInfo
	PathAudit      = "/v1/audit/export"                 // P GET -> lines, see package audit
	PathCheckpoint = "/v1/audit/checkpoint"             // J GET ?from=SIZE -> AuditGossip; P POST Cosignature
)

// The proof context's action for each route that wants a proof.
const (
	ActLogout  = "login.end"       // one's own login
	ActRoster  = "roster.publish"  // the next version of a roster
	ActToken   = "token.publish"   // a join token
	ActAgent   = "agent.delete"    // deleting a machine
	ActSession = "session.open"    // asking for a session
	ActRenew   = "session.renew"   // a further relay credential for one
	ActCheck   = "relay.check"     // a relay credential for netcheck alone
	ActApprove = "request.approve" // an approval or denial
	ActCancel  = "request.cancel"  // withdrawing one's own request
	ActAudit   = "audit.export"    // the whole log
	ActCosign  = "audit.cosign"    // a cosignature of a checkpoint
)

// MaxBody caps any request body; rosters (protocol 4.1, 4 MiB) are the largest.
const MaxBody = 6 << 20

// Problem is the body of every answer that is not 2xx.
type Problem struct {
	Code       refusal.Code `json:"code"`
	Detail     string       `json:"detail"`
	RequestID  string       `json:"requestId"`
	ServerTime Millis       `json:"serverTime"` // for proof_time_skew and its like
}

// ServerKeys are the public keys of one rendezvous server; the roster binds
// them, so a server cannot quietly change them.
type ServerKeys struct {
	Access key.Public[key.Access] `json:"access"`
	Grant  key.Public[key.Grant]  `json:"grant"`
	Audit  key.Public[key.Audit]  `json:"audit"`
	TLS    key.Hash               `json:"tls"` // SHA-256 of the SubjectPublicKeyInfo
}

// SetupRequest founds a team on a server. It is checked against the one-time
// code that the server printed for whoever installed it: there is no
// unauthenticated first visitor (attacks G12).
type SetupRequest struct {
	Code   Bytes            `json:"code"`
	Setup  statement.Signed `json:"setup"` // roster.Setup, signed by an owner
	Root   statement.Signed `json:"root"`
	Roster []RosterUpdate   `json:"roster"`
	Policy Bytes            `json:"policy"`
}

// LoginRequest asks for a JWT.
type LoginRequest struct {
	Login statement.Signed `json:"login"`
}

// LoginReply is a JWT bound to the operator's key.
type LoginReply struct {
	Token         string   `json:"token"`
	ExpiresAt     Millis   `json:"exp"`
	ServerTime    Millis   `json:"serverTime"`
	RosterVersion uint64   `json:"rosterVersion"`
	RosterHash    key.Hash `json:"rosterHash"`
}

// RosterPublish offers the next version, with the policy text if that changed.
type RosterPublish struct {
	Update RosterUpdate `json:"update"`
	Policy Bytes        `json:"policy"`
}

// TokenPublish tells the server of a join token, whose uses it will count. The
// token's seed is not in it.
type TokenPublish struct {
	Token statement.Signed `json:"token"`
}

// TokenInfo is a join token as the server knows it.
type TokenInfo struct {
	Token statement.Signed `json:"token"`
	Used  int              `json:"used"`
}

// TokenList lists the team's tokens, newest first.
type TokenList struct {
	Tokens []TokenInfo `json:"tokens"`
}

// AgentInfo is an agent as the server knows it. The receiver believes only what
// the two statements say; the rest is for display.
type AgentInfo struct {
	Token       statement.Signed `json:"token"`
	Certificate statement.Signed `json:"certificate"`
	Online      bool             `json:"online"`
	LastSeen    Millis           `json:"lastSeen"`
	Platform    string           `json:"platform"`
	Hostname    string           `json:"hostname"`
	Version     string           `json:"version"`
}

// AgentList lists the team's agents by name. Next is "" on the last page.
type AgentList struct {
	Agents []AgentInfo `json:"agents"`
	Next   string      `json:"next"`
}

// SessionOpen asks for a session.
type SessionOpen struct {
	Request statement.Signed `json:"request"`
	Open    Bytes            `json:"open"` // M1
}

// SessionReply is either the agent's answer or what the request waits for.
type SessionReply struct {
	Accept  Bytes        `json:"accept"`  // M2; empty while pending
	Grant   key.Hash     `json:"grant"`   // hash of the grant the agent got
	Relay   Relay        `json:"relay"`   // the operator's side
	Lease   Lease        `json:"lease"`   // of that credential
	Pending *RequestInfo `json:"pending"` // with status 202
}

// RequestState is where a request that needs approval stands.
type RequestState string

// The states; all but pending and approved are final.
const (
	RequestPending   RequestState = "pending"   // people have to decide
	RequestApproved  RequestState = "approved"  // enough have agreed, and it has not run
	RequestDenied    RequestState = "denied"    // somebody said no
	RequestExpired   RequestState = "expired"   // its time ran out
	RequestCancelled RequestState = "cancelled" // withdrawn by who asked
	RequestUsed      RequestState = "used"      // it has run
)

// UnmarshalText refuses what is no state: a client shows the state to an approver,
// and what the server says there may not be a word of the server's own (attack J1).
func (s *RequestState) UnmarshalText(text []byte) error {
	switch state := RequestState(text); state {
	case RequestPending, RequestApproved, RequestDenied, RequestExpired, RequestCancelled, RequestUsed:
		*s = state
		return nil
	}
	return errors.New("not the state of a request")
}

// RequestInfo is a waiting request with everything an approver must see. The
// approver's terminal opens Request itself; the rest only says what is missing.
type RequestInfo struct {
	Hash      key.Hash           `json:"hash"`
	Request   statement.Signed   `json:"request"`
	State     RequestState       `json:"state"`
	Rule      string             `json:"rule"`  // of the policy, that asks for most approvals; policy.Gate where that is the gate
	Need      int                `json:"need"`  // approvals needed
	Roles     []string           `json:"roles"` // any of which may approve
	Approvals []statement.Signed `json:"approvals"`
	ExpiresAt Millis             `json:"exp"`
}

// RequestList lists requests, newest first.
type RequestList struct {
	Requests []RequestInfo `json:"requests"`
}

// ApprovalPublish delivers an approver's signed decision.
type ApprovalPublish struct {
	Approval statement.Signed `json:"approval"`
}
