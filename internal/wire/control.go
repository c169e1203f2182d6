package wire

import (
	"encoding/json"
	"time"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/refusal"
)

// The control channel: one WebSocket per agent at ControlPath, subprotocol
// ControlProtocol, binary messages of one Frame each as JSON.
const (
	ControlPath      = "/v1/control"
	ControlProtocol  = "tucdesk-control-v1"
	MaxFrame         = 64 << 10         // bytes (protocol 2.11)
	MaxNews          = 12 << 20         // bytes of a registered or roster frame towards an agent: one roster of 4 MiB and a policy in base64; our choice
	HeartbeatEvery   = 20 * time.Second // server to agent, answered once (protocol 2.11)
	HeartbeatMissing = 60 * time.Second // either side gives up; our choice
)

// FrameType names the body of a Frame.
type FrameType string

// The frames. "A" is sent by the agent, "S" by the server.
const (
	FrameRegister   FrameType = "register"      // A, first: Register
	FrameRegistered FrameType = "registered"    // S: Registered
	FrameHeartbeat  FrameType = "heartbeat"     // S: Heartbeat; A: HeartbeatReply
	FrameRoster     FrameType = "roster"        // S: RosterNews, unasked or as answer; A: RosterWant
	FrameOpen       FrameType = "open"          // S: OpenSession
	FrameAccept     FrameType = "accept"        // A: AcceptSession, answers the open of the same ID
	FrameRefuse     FrameType = "refuse"        // A: Refuse, answers the open of the same ID; S: answers a relay, with ID 0 its last word
	FrameAudit      FrameType = "audit"         // A: AuditEntries
	FrameAuditAck   FrameType = "audit-ack"     // S: AuditAck
	FrameCut        FrameType = "cut"           // S: Cut; the server may always end, never begin
	FrameRelay      FrameType = "relay"         // A: RelayWant, for a session of its own
	FrameRelayed    FrameType = "relay-renewed" // S: RelayRenewed, answers the relay of the same ID, as a refuse may
)

// Frame is one message. ID ties an answer to its question; 0 needs none.
type Frame struct {
	Type FrameType       `json:"type"`
	ID   uint64          `json:"id"`
	Body json.RawMessage `json:"body"`
}

// Register introduces an agent.
type Register struct {
	Registration statement.Signed `json:"registration"`
	Token        statement.Signed `json:"token"`       // roster.Token, signed by an enroller
	Certificate  statement.Signed `json:"certificate"` // roster.AgentCert, signed by the token's key
	Platform     string           `json:"platform"`    // "linux/amd64"; for display only
	Hostname     string           `json:"hostname"`    // for display only, hostile until escaped
	Roster       uint64           `json:"roster"`      // version the agent has verified
	Seen         uint64           `json:"seen"`        // size of the newest checkpoint that the agent's witness holds
}

// Registered accepts a registration.
type Registered struct {
	ServerTime Millis      `json:"serverTime"`
	Roster     RosterNews  `json:"roster"`
	AuditSeq   uint64      `json:"auditSeq"` // last entry of this agent that the log holds
	Heartbeat  Millis      `json:"heartbeat"`
	Checkpoint AuditGossip `json:"checkpoint"`
}

// RosterNews carries every update after the version that the receiver has, and
// the policy text that the last one binds.
type RosterNews struct {
	Root    statement.Signed `json:"root"` // only towards a newcomer, otherwise null
	Updates []RosterUpdate   `json:"updates"`
	Policy  Bytes            `json:"policy"` // empty when unchanged
}

// RosterUpdate is one version of the roster with all its signatures.
type RosterUpdate struct {
	Statement    statement.Signed        `json:"statement"`
	Cosignatures []statement.Cosignature `json:"cosignatures"`
}

// RosterWant asks for the updates after Version. An agent that is ahead sends
// its own in Ahead: an honest party carries news past a lying server.
type RosterWant struct {
	Version uint64         `json:"version"`
	Ahead   []RosterUpdate `json:"ahead"`
}

// Heartbeat keeps the channel warm and carries news.
type Heartbeat struct {
	ServerTime    Millis      `json:"serverTime"`
	RosterVersion uint64      `json:"rosterVersion"`
	Checkpoint    AuditGossip `json:"checkpoint"`
}

// HeartbeatReply says that the agent lives and what it holds.
type HeartbeatReply struct {
	RosterVersion uint64      `json:"rosterVersion"`
	AuditSeq      uint64      `json:"auditSeq"`
	Sessions      int         `json:"sessions"`
	Cosigned      Cosignature `json:"cosigned"` // of a checkpoint that it has verified since its last answer
}

// AuditGossip is the newest checkpoint and the proof that it extends the one
// this receiver saw last (protocol 5.3).
type AuditGossip struct {
	Checkpoint  string     `json:"checkpoint"` // signed note; "" when nothing is new
	Consistency []key.Hash `json:"consistency"`
}

// Cosignature is what a witness says of a checkpoint that was shown to it on this
// connection (protocol 5.3). The zero value says nothing.
type Cosignature struct {
	Size int64  `json:"size"` // of the checkpoint
	Line string `json:"line"` // signature line of the note, without its newline
}

// OpenSession asks an agent to answer an operator.
type OpenSession struct {
	Request   statement.Signed   `json:"request"`
	Open      Bytes              `json:"open"` // M1, opaque to the server
	Grant     statement.Signed   `json:"grant"`
	Approvals []statement.Signed `json:"approvals"`
	Lease     Lease              `json:"lease"` // of the relay credential in the grant
}

// AcceptSession is the agent's answer.
type AcceptSession struct {
	Accept Bytes `json:"accept"` // M2, opaque to the server
}

// Refuse is a refusal that crosses the wire.
type Refuse struct {
	Code   refusal.Code  `json:"code"`
	Detail string        `json:"detail"`
	Need   *ApprovalNeed `json:"need,omitempty"` // with approval_required and not_enough_approvers of an agent
}

// ApprovalNeed is what an agent misses before it opens a session. Only the agent
// knows its files, so it can find an approval needed where the server saw a
// command that needs none; from this the server makes the request that people can
// approve (protocol 4.3). It can only ask for more, never for less.
type ApprovalNeed struct {
	Rule  string   `json:"rule"`  // that asks for most approvals; policy.Gate where that is the gate
	Count int      `json:"count"` // approvals, at least 1
	Roles []string `json:"roles"` // any of which may approve
}

// Cut ends a session at the agent.
type Cut struct {
	Session SessionID    `json:"session"`
	Code    refusal.Code `json:"code"`
}

// AuditEntries delivers the agent's own entries, in order, without gaps.
type AuditEntries struct {
	Entries []statement.Signed `json:"entries"` // at most MaxAuditBatch
}

// MaxAuditBatch keeps a batch under MaxFrame; our choice.
const MaxAuditBatch = 16

// AuditAck says up to which of the agent's entries the log holds, and proves it for
// those of the batch that it answers. Without proofs it is no more than a claim, and
// the agent keeps its entries.
type AuditAck struct {
	Seq        uint64      `json:"seq"`
	Checkpoint AuditGossip `json:"checkpoint"` // that the proofs lead to
	First      uint64      `json:"first"`      // number of the entry that the first proof is of
	Proofs     []Inclusion `json:"proofs"`     // of consecutive entries, at most MaxAuditBatch
}

// Inclusion proves that an entry is number Index of a checkpoint's log (protocol 5.2).
type Inclusion struct {
	Index int64      `json:"index"`
	Path  []key.Hash `json:"path"`
}
