package refusal

// Session set-up, as checked by the agent and by the operator (protocol 2.5, 2.6).
const (
	BadMessage      Code = "bad_message"      // length, type, version or reserved bits of a handshake message
	BadEphemeral    Code = "bad_ephemeral"    // low-order, zero or echoed X25519 key
	EphMismatch     Code = "eph_mismatch"     // the request was signed for another ephemeral key
	HandshakeFailed Code = "handshake_failed" // a sealed part did not open or a transcript signature is wrong
	UnknownAgent    Code = "unknown_agent"    // the answering key has no certificate from this team
	WrongAgent      Code = "wrong_agent"      // the request names another agent
	WrongTeam       Code = "wrong_team"
	WrongType       Code = "wrong_type" // a statement of another kind than this place takes
	BadSignature    Code = "bad_signature"
	BadStatement    Code = "bad_statement" // not the one canonical encoding
	UnknownKey      Code = "unknown_key"   // signer is not in the roster
	KeyRevoked      Code = "key_revoked"
	Expired         Code = "expired"
	NotYetValid     Code = "not_yet_valid"
	BadTime         Code = "bad_time"      // a clock that went backwards, or times in the wrong order
	Stale           Code = "stale"         // registration outside the allowed clock difference
	WrongChannel    Code = "wrong_channel" // registration signed for another TLS connection
	Replay          Code = "replay"
	ReplayPressure  Code = "replay_cache_pressure"
	NoCommonSuite   Code = "no_common_suite"
	GrantMismatch   Code = "grant_mismatch" // grant names another request
	RekeyRequired   Code = "rekey_required"
	TooOld          Code = "too_old"
	OpenFailed      Code = "open_failed"
	ProtocolError   Code = "protocol_error"
	RateLimited     Code = "rate_limited"
	TooMany         Code = "too_many"
	RelayFailed     Code = "relay_failed" // no relay could be reached from here
)

// Trust: roster, certificates, tokens (protocol 3).
const (
	WeakKey             Code = "weak_key"
	KeyInUse            Code = "key_in_use"
	Rollback            Code = "rollback"
	Fork                Code = "fork"
	Gap                 Code = "gap"
	BadChain            Code = "bad_chain"
	NotEnoughSignatures Code = "not_enough_signatures"
	WrongRole           Code = "wrong_role"
	WiderThanAllowed    Code = "wider_than_allowed" // tags or lifetime beyond what the signer may give
	TokenUsed           Code = "token_used"
	NameTaken           Code = "name_taken"
	BadName             Code = "bad_name"
	RosterExpired       Code = "roster_expired"
	RosterBehind        Code = "roster_behind" // the operator names a newer roster that cannot be had
	AlreadyJoined       Code = "already_joined"
	RosterNotSaved      Code = "roster_not_saved" // in force, but not on the disk yet
	BadFileMode         Code = "bad_file_mode"
	Superseded          Code = "superseded"      // the roster moved on before this change had its signatures
	ProgramTooOld       Code = "program_too_old" // the roster asks for a newer program (its minVersion)
)

// Policy and approvals (protocol 4.3).
const (
	PolicyDenied       Code = "policy_denied"
	PolicyMismatch     Code = "policy_mismatch" // policy text does not have the hash in the roster
	ApprovalRequired   Code = "approval_required"
	ApprovalPending    Code = "approval_pending"
	ApprovalDenied     Code = "approval_denied"
	ApprovalExpired    Code = "approval_expired"
	ApprovalCancelled  Code = "approval_cancelled"
	ApprovalUsed       Code = "approval_used"
	ApprovalMismatch   Code = "approval_mismatch"
	SelfApproval       Code = "self_approval"
	NotEnoughApprovers Code = "not_enough_approvers"
	ApproverNotAllowed Code = "approver_not_allowed"
	BadArgument        Code = "bad_argument"
	EnvNotAllowed      Code = "env_not_allowed"
	UserNotAllowed     Code = "user_not_allowed"
	CommandNotFound    Code = "command_not_found"
	NotExecutable      Code = "not_executable" // there is such a file, and it cannot be run
	TakenOver          Code = "taken_over"     // another session of the same operator got the kept shell
	Gone               Code = "gone"           // the machine's end of the session was killed, or its farewell was lost
)

// Login, proofs and the API (protocol 4.2).
const (
	BadAlg        Code = "bad_alg"
	UnknownKid    Code = "unknown_kid"
	BadHeader     Code = "bad_header"
	BadToken      Code = "bad_token"
	NotLoggedIn   Code = "not_logged_in"
	ProofRequired Code = "proof_required"
	ProofInvalid  Code = "proof_invalid"
	ProofMismatch Code = "proof_mismatch"
	ProofTimeSkew Code = "proof_time_skew"
	NotFound      Code = "not_found"
	NotYours      Code = "not_yours"
	Forbidden     Code = "forbidden"
	BadRequest    Code = "bad_request"
	TooLarge      Code = "too_large"
	BadCursor     Code = "bad_cursor"
	Offline       Code = "offline" // the agent is not connected
	Unreachable   Code = "unreachable"
	Unavailable   Code = "unavailable" // our own fault: database down, shutting down
	PinMismatch   Code = "pin_mismatch"
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
	NoSpace       Code = "no_space"
)

// Audit (protocol 5.3).
const (
	AuditFork Code = "audit_fork" // the server showed two logs, or a shrinking one
)
