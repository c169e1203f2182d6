package refusal

// Session set-up, as checked by the agent and by the operator (protocol 2.5, 2.6).
const (
	BadMessage      Code = "bad_message"           // length, type, version or reserved bits of a handshake message
	BadEphemeral    Code = "bad_ephemeral"         // low-order, zero or echoed X25519 key
	EphMismatch     Code = "eph_mismatch"          // the request was signed for another ephemeral key
	HandshakeFailed Code = "handshake_failed"      // a sealed part did not open or a transcript signature is wrong
	UnknownAgent    Code = "unknown_agent"         // the answering key has no certificate from this team
	WrongAgent      Code = "wrong_agent"           // the request names another agent
	WrongTeam       Code = "wrong_team"            // made for a team that is not this one
	WrongType       Code = "wrong_type"            // a statement of another kind than this place takes
	BadSignature    Code = "bad_signature"         // the signature is not one of the key it names, or what was signed was changed
	BadStatement    Code = "bad_statement"         // not the one canonical encoding
	UnknownKey      Code = "unknown_key"           // signer is not in the roster
	KeyRevoked      Code = "key_revoked"           // the roster revokes the key, or the machine was deleted: it never comes back
	Expired         Code = "expired"               // past the end of its time: a token, request, grant, certificate or session
	NotYetValid     Code = "not_yet_valid"         // issued in the future by more than clocks may differ
	BadTime         Code = "bad_time"              // a clock that went backwards, or times in the wrong order
	Stale           Code = "stale"                 // registration outside the allowed clock difference
	WrongChannel    Code = "wrong_channel"         // registration signed for another TLS connection
	Replay          Code = "replay"                // seen before: an id, a counter or a request is taken once
	ReplayPressure  Code = "replay_cache_pressure" // too many unexpired ids to remember another one; fails closed
	NoCommonSuite   Code = "no_common_suite"       // the two ends share no suite or version of the protocol
	GrantMismatch   Code = "grant_mismatch"        // grant names another request
	RekeyRequired   Code = "rekey_required"        // the key of this epoch is used up or too old for data
	TooOld          Code = "too_old"               // a counter behind the replay window
	OpenFailed      Code = "open_failed"           // a datagram that is not sealed by this session's key
	ProtocolError   Code = "protocol_error"        // a message that has no place there, or cannot be read
	RateLimited     Code = "rate_limited"          // too often; the same may pass in a moment
	TooMany         Code = "too_many"              // a limit on how many there may be at a time is reached
	RelayFailed     Code = "relay_failed"          // no relay could be reached from here
)

// Trust: roster, certificates, tokens (protocol 3).
const (
	WeakKey             Code = "weak_key"              // a public key that is not canonical or has small order
	KeyInUse            Code = "key_in_use"            // another entry, or another machine, has this key
	Rollback            Code = "rollback"              // an older roster than the one known here
	Fork                Code = "fork"                  // two rosters of one version, both signed: never followed
	Gap                 Code = "gap"                   // something in between is missing: of a roster's history, or of an agent's log
	BadChain            Code = "bad_chain"             // a roster that does not follow the one before it, or another root than the pinned one
	NotEnoughSignatures Code = "not_enough_signatures" // fewer owners have signed than the root asks for
	WrongRole           Code = "wrong_role"            // the key may not do this: it is of another role, or of nobody here
	WiderThanAllowed    Code = "wider_than_allowed"    // tags or lifetime beyond what the signer may give
	TokenUsed           Code = "token_used"            // a join token without uses left, or unknown to the server
	NameTaken           Code = "name_taken"            // somebody else of the team has the name
	BadName             Code = "bad_name"              // a name, tag or address that is not of its form
	RosterExpired       Code = "roster_expired"        // the roster is past its time and the policy's grace: an owner renews it
	RosterBehind        Code = "roster_behind"         // the operator names a newer roster that cannot be had
	AlreadyJoined       Code = "already_joined"        // the state folder belongs to a team, or its agent, already
	RosterNotSaved      Code = "roster_not_saved"      // in force, but not on the disk yet
	BadFileMode         Code = "bad_file_mode"         // others could read or replace a file of keys
	Superseded          Code = "superseded"            // the roster moved on before this change had its signatures
	ProgramTooOld       Code = "program_too_old"       // the roster asks for a newer program (its minVersion)
)

// Policy and approvals (protocol 4.3).
const (
	PolicyDenied       Code = "policy_denied"        // no rule allows it, or one forbids it
	PolicyMismatch     Code = "policy_mismatch"      // policy text does not have the hash in the roster
	ApprovalRequired   Code = "approval_required"    // the policy asks for approvals, and none came with the request
	ApprovalPending    Code = "approval_pending"     // the request waits for approvals
	ApprovalDenied     Code = "approval_denied"      // an approver said no: the request never runs
	ApprovalExpired    Code = "approval_expired"     // nobody approved in time, or not soon enough before it ran
	ApprovalCancelled  Code = "approval_cancelled"   // who asked has withdrawn the request
	ApprovalUsed       Code = "approval_used"        // it has run once, which is as often as it may
	ApprovalMismatch   Code = "approval_mismatch"    // the approval is for another request or other content
	SelfApproval       Code = "self_approval"        // a person cannot approve a request of their own, with whatever key
	NotEnoughApprovers Code = "not_enough_approvers" // fewer persons have approved than the rule asks for
	ApproverNotAllowed Code = "approver_not_allowed" // who approved has none of the roles that the rule names
	BadArgument        Code = "bad_argument"         // what was asked for cannot be: an argument out of its form or range
	EnvNotAllowed      Code = "env_not_allowed"      // a variable that the policy does not name
	UserNotAllowed     Code = "user_not_allowed"     // the policy or the machine does not let anybody in as this login user
	CommandNotFound    Code = "command_not_found"    // the machine has no such program
	NotExecutable      Code = "not_executable"       // there is such a file, and it cannot be run
	TakenOver          Code = "taken_over"           // another session of the same operator got the kept shell
	Gone               Code = "gone"                 // the machine's end of the session was killed, or its farewell was lost
	AgentStopped       Code = "agent_stopped"        // the machine's agent was stopped, maybe to begin anew, ended its sessions and takes no new one
)

// Login, proofs and the API (protocol 4.2).
const (
	BadAlg        Code = "bad_alg"         // a token's algorithm is not the one there is
	UnknownKid    Code = "unknown_kid"     // a token names no key of this server
	BadHeader     Code = "bad_header"      // a token's head holds what it may not
	BadToken      Code = "bad_token"       // a token, or a string that was carried by hand, that cannot be read or does not hold
	NotLoggedIn   Code = "not_logged_in"   // no login: none was made, it ended, or the key is unknown
	ProofRequired Code = "proof_required"  // a call that changes something came without its proof (protocol 4.2)
	ProofInvalid  Code = "proof_invalid"   // the proof does not hold, or was used before
	ProofMismatch Code = "proof_mismatch"  // the proof is of another call, body or server
	ProofTimeSkew Code = "proof_time_skew" // the proof's time is too far from the server's
	NotFound      Code = "not_found"       // no such thing, or not yours to know of: deliberately one code
	NotYours      Code = "not_yours"       // signed by another key than the caller's
	Forbidden     Code = "forbidden"       // the caller's role does not allow the call
	BadRequest    Code = "bad_request"     // a call that is not of its form
	TooLarge      Code = "too_large"       // beyond a limit in bytes
	BadCursor     Code = "bad_cursor"      // a page or number in a query that there is not
	Offline       Code = "offline"         // the agent is not connected
	Unreachable   Code = "unreachable"     // nobody answered there
	Unavailable   Code = "unavailable"     // our own fault: database down, shutting down
	PinMismatch   Code = "pin_mismatch"    // whoever answered does not hold the pinned key
)

// Copies of files (package filecopy).
const (
	BadPath       Code = "bad_path"       // a name that may not be created here, or was not asked for
	BadFile       Code = "bad_file"       // no regular file, folder or link, or another kind than the one in its place
	NameCollision Code = "name_collision" // two names that are one on this disk
	HashMismatch  Code = "hash_mismatch"  // what arrived is not what was read
	FileChanged   Code = "file_changed"   // it changed while it was read
	FileDenied    Code = "file_denied"    // the system does not let the user
	FileFailed    Code = "file_failed"    // the system cannot: the disk has a fault, say
	NoSpace       Code = "no_space"       // the disk there is full, or a quota is reached
)

// Audit (protocol 5.3).
const (
	AuditFork Code = "audit_fork" // the server showed two logs, or a shrinking one
	AuditFull Code = "audit_full" // too much of a machine's log waits until the server takes it
)
