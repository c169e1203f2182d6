// Package entry is one line of the log: what happened, who did it and to which
// machine, signed by the agent that acted or by the rendezvous' audit key.
//
// Each signer numbers its entries from 1 and names the hash of its previous one,
// so that neither the server nor a copy of the log can leave one out or turn two
// round. Secrets never enter: Sign redacts first.
//
// Source: protocol 5.2.
package entry

import (
	"fmt"
	"slices"

	"github.com/tucdesk/tucdesk/crypto/key"
	"github.com/tucdesk/tucdesk/crypto/statement"
	"github.com/tucdesk/tucdesk/internal/audit/redact"
	"github.com/tucdesk/tucdesk/internal/refusal"
	"github.com/tucdesk/tucdesk/internal/wire"
)

// EventType says what happened.
type EventType string

// What an agent says about itself. Nobody else may sign these.
const (
	AgentStart    EventType = "agent.start"    // the agent's program began
	AgentStop     EventType = "agent.stop"     // it ended, and was asked to
	RosterApplied EventType = "roster.applied" // RosterVersion is in force here
	SessionAccept EventType = "session.accept" // the operator has proved its key; keys leave after this
	SessionRefuse EventType = "session.refuse" // Refusal says why
	SessionEnd    EventType = "session.end"    // Refusal says why, if not by itself
	ExecStart     EventType = "exec.start"     // Command says what
	ExecEnd       EventType = "exec.end"       // Command says how it ended
	ChannelOpen   EventType = "channel.open"   // Command's action and argv say what was reached or listened at, or which way files go, for the first time in its session
	KeptStart     EventType = "kept.start"     // a shell that outlives its session began, in Session
	KeptAttach    EventType = "kept.attach"    // Session was joined to it
	KeptDetach    EventType = "kept.detach"    // Session ended or was pushed out, the shell runs on
	KeptEnd       EventType = "kept.end"       // the shell ended, Command says how; Refusal says why, if not by itself; Session is the one that it began in
	SpoolGap      EventType = "spool.gap"      // Gap says what could not be recorded
)

// What the rendezvous says about what it did. No agent may sign these.
const (
	TeamFound      EventType = "team.found"      // the first entry of a log
	RosterPublish  EventType = "roster.publish"  // RosterVersion is in force here; by an operator, or learnt from an agent
	TokenPublish   EventType = "token.publish"   // a join token became known here
	AgentJoin      EventType = "agent.join"      // Target registered for the first time
	AgentConnect   EventType = "agent.connect"   // Target registered, once a day and when something about it changed
	AgentDelete    EventType = "agent.delete"    // Target was taken out of the registry
	Login          EventType = "login"           // Actor got an access token
	LoginRefuse    EventType = "login.refuse"    // Refusal says why
	Logout         EventType = "logout"          // Actor ended an access token
	SessionOpen    EventType = "session.open"    // granted and passed on to the agent
	SessionDeny    EventType = "session.deny"    // Refusal says why
	RequestWait    EventType = "request.wait"    // a request waits for Policy.Need people
	RequestApprove EventType = "request.approve" // Actor approved; Approvals has the statement's hash
	RequestDeny    EventType = "request.deny"    // Actor denied; Approvals has the statement's hash
	RequestCancel  EventType = "request.cancel"  // who asked took it back
	RequestExpire  EventType = "request.expire"  // it waited for too long
	AuditExport    EventType = "audit.export"    // Actor took the log out, up to this entry
	Alarm          EventType = "alarm"           // Refusal says which: two connections with one key, a gap in an agent's chain
)

// ByAgent reports whether agents sign entries of this type.
func (t EventType) ByAgent() bool {
	switch t {
	case AgentStart, AgentStop, RosterApplied, SessionAccept, SessionRefuse, SessionEnd, ExecStart, ExecEnd, ChannelOpen, KeptStart, KeptAttach, KeptDetach, KeptEnd, SpoolGap:
		return true
	}
	return false
}

// Entry is one thing that happened (protocol 5.2). Fields that do not apply are
// zero. Secrets never enter: whoever signs an entry redacts it first.
type Entry struct {
	ID            wire.Nonce     `json:"jti"`           // drawn when the entry is signed
	Type          EventType      `json:"event"`         // what happened
	Time          wire.Millis    `json:"iat"`           // by the signer's clock
	Team          wire.TeamID    `json:"team"`          // set when the entry is signed
	Seq           uint64         `json:"seq"`           // in the signer's own chain, from 1; set when the entry is signed
	Previous      key.Hash       `json:"previous"`      // of the signer's entry Seq-1; zero for the first
	Actor         Actor          `json:"actor"`         // who did it
	Target        Target         `json:"target"`        // the machine that it was done to
	Session       wire.SessionID `json:"session"`       // as the operator drew it; another operator may have drawn the same
	RequestHash   key.Hash       `json:"requestHash"`   // of the session request's statement
	RosterVersion uint64         `json:"rosterVersion"` // in force at the signer
	Policy        PolicyResult   `json:"policy"`        // what the policy answered
	Command       *Command       `json:"command"`       // null where nothing was to run
	Approvals     []key.Hash     `json:"approvals"`     // of the approval statements that were counted
	Refusal       refusal.Code   `json:"refusal"`       // why not, "" when nothing was refused
	Gap           *Gap           `json:"gap"`           // of SpoolGap alone
}

// Kind says how an Entry is signed. A batch of one must fit into a control
// frame (64 KiB) after base64.
func (Entry) Kind() statement.Kind {
	return statement.Kind{Type: "tucdesk/audit-entry/v1", MaxSize: MaxSize}
}

// MaxSize is the largest payload in bytes; what redact leaves is below it.
const MaxSize = 40 << 10

// Actor is who did it, by key; the texts are those of the roster.
type Actor struct {
	Kid    key.ID `json:"kid"`    // an operator's key, or an agent's where it was the one who acted
	Email  string `json:"email"`  // "" for an agent
	Person string `json:"person"` // "" for an agent
}

// Target is the host it was done to.
type Target struct {
	Agent key.ID `json:"agent"` // the machine's key
	Name  string `json:"name"`  // in its certificate
}

// PolicyResult is what the policy answered.
type PolicyResult struct {
	Decision string   `json:"decision"` // "allow", "approval", "deny", or "" when it was not asked
	Rule     string   `json:"rule"`     // name of the rule that decided
	Hash     key.Hash `json:"hash"`     // of the policy text
	Need     int      `json:"need"`     // people who had to approve
}

// NeedsApproval is the Decision after which approvals must be there.
const NeedsApproval = "approval"

// Command is what ran, or should have.
type Command struct {
	Action   wire.Action  `json:"action"`         // as the request has it
	User     string       `json:"user"`           // account on the machine; "" where the request left it open
	Argv     []wire.Bytes `json:"argv"`           // redacted
	Cwd      wire.Bytes   `json:"cwd"`            // redacted
	EnvNames []string     `json:"envNames"`       // of variables that were set; values are not recorded
	TTY      bool         `json:"tty"`            // it had a pseudo-terminal
	Keep     *wire.Keep   `json:"keep,omitempty"` // of a kept shell
	Cut      bool         `json:"cut"`            // something was shortened to fit
	ExitCode *int         `json:"exitCode"`       // null while running or after a signal
	Signal   string       `json:"signal"`         // name of the one that ended it, "" for none
	BytesIn  uint64       `json:"bytesIn"`        // towards the program
	BytesOut uint64       `json:"bytesOut"`       // from the program
}

// Gap is what an agent could not record because its spool was full (attack N9) or
// its disk failed.
type Gap struct {
	Open  bool        `json:"open"`  // the gap begins with this entry; otherwise it ends
	Lost  uint64      `json:"lost"`  // entries that are missing, when it ends; those of a run that was killed are not counted
	Since wire.Millis `json:"since"` // when the first of them was lost
}

// ExitCode returns code as Command.ExitCode has it.
func ExitCode(code int) *int { return &code }

// Limits of one entry, so that all of them together, with six bytes for the
// worst characters of a text in JSON, stay below MaxSize. Our choice. What is
// longer is cut and marked.
const (
	maxText     = 128      // bytes of a text of ours: name, rule, e-mail
	maxArgv     = 12 << 10 // bytes of all arguments
	maxArgs     = 512      // arguments
	maxCwd      = 1 << 10  // bytes
	maxEnvNames = 32       // names
	maxEnvName  = 64       // bytes of one
)

// MaxApprovals is how many approvals one entry names at most; our choice.
const MaxApprovals = 32

// Sign redacts e, completes it and signs it.
func Sign(signer statement.Signer, e Entry, team wire.TeamID, seq uint64, previous key.Hash) (Entry, statement.Signed, error) {
	if e.Type == "" || e.Time <= 0 {
		return e, nil, fmt.Errorf("signing a log entry: type or time is missing")
	}
	e = e.redact()
	e.ID, e.Team, e.Seq, e.Previous = wire.NewNonce(), team, seq, previous
	s, err := statement.Sign(signer, e)
	return e, s, err
}

// redact returns e without secrets and within the limits. It shares nothing
// with e that it changed.
func (e Entry) redact() Entry {
	e.Actor.Email, e.Actor.Person = cut(e.Actor.Email, maxText), cut(e.Actor.Person, maxText)
	e.Target.Name, e.Policy.Rule = cut(e.Target.Name, maxText), cut(e.Policy.Rule, maxText)
	e.Approvals = slices.Clone(e.Approvals[:min(len(e.Approvals), MaxApprovals)])
	if e.Command != nil {
		c := e.Command.Recorded()
		e.Command = &c
	}
	return e
}

// Recorded returns c as an entry shows it: redacted and within the limits. The
// same command always gives the same result, on which a verifier relies when it
// compares what was approved with what was recorded.
func (c Command) Recorded() Command {
	c.User, c.Signal = cut(c.User, maxText), cut(c.Signal, maxText)
	c.Argv, c.Cut = recorded(c.Argv, c.Cut)
	cwd := redact.Text(string(c.Cwd[:min(len(c.Cwd), maxCwd+maxSecret)]))
	c.Cut = c.Cut || len(cwd) > maxCwd
	c.Cwd = wire.Bytes(cwd[:min(len(cwd), maxCwd)])
	c.Cut = c.Cut || len(c.EnvNames) > maxEnvNames
	names := make([]string, 0, min(len(c.EnvNames), maxEnvNames))
	for _, name := range c.EnvNames[:cap(names)] {
		names = append(names, cut(name, maxEnvName))
	}
	c.EnvNames = names
	if c.Keep != nil && !c.Keep.Valid() { // of a request that was refused for it
		c.Keep = nil
	}
	return c
}

// maxRefused bounds the arguments of what was not done, in bytes; our choice.
const maxRefused = 2 << 10

// Refused returns c as an entry shows it that says no: anybody in the roster can have that
// said as often as he likes, and the log is kept for ever.
func (c Command) Refused() Command {
	c = c.Recorded()
	var wasCut bool
	c.Argv, wasCut = within(c.Argv, maxArgs, maxRefused)
	c.Cut = c.Cut || wasCut
	c.Cwd = c.Cwd[:min(len(c.Cwd), maxRefused)]
	return c
}

// recorded returns argv as an entry shows it: redacted, then cut to the limits.
func recorded(argv []wire.Bytes, already bool) (out []wire.Bytes, wasCut bool) {
	argv, wasCut = within(argv, maxArgs, maxArgv+maxSecret)
	out, cutAgain := within(redact.Argv(argv), maxArgs, maxArgv)
	return out, already || wasCut || cutAgain
}

// maxSecret is how much more is redacted than is kept, so that what is kept
// does not end in the first half of a secret that nobody recognised.
const maxSecret = 4 << 10

// within returns the first arguments, at most n of them and room bytes.
func within(argv []wire.Bytes, n, room int) (out []wire.Bytes, wasCut bool) {
	out = argv[:min(len(argv), n)]
	wasCut = len(argv) > n
	for i, arg := range out {
		if len(arg) > room {
			out = append(slices.Clone(out[:i]), arg[:room])
			return out, true
		}
		room -= len(arg)
	}
	return out, wasCut
}

// cut shortens s to at most n bytes. JSON makes one character of a split one.
func cut(s string, n int) string { return s[:min(len(s), n)] }

// Peek reads an entry without verifying it, only to find what belongs to it; of
// what is no entry the zero value.
func Peek(s statement.Signed) (e Entry) {
	_, _, _ = statement.OpenSelfSigned(s, func(read Entry, _ key.ID) (statement.Verifier, error) {
		e = read
		return nil, nil
	})
	return e
}
