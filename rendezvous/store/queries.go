package store

// Every SQL text of this package is a constant in this file, with numbered
// parameters that both databases understand. A test reads the file: each query
// on a team's table must name team_id, and no SQL may stand anywhere else
// (attacks K7, K11).
//
// The team is always $1 where there is one.

// Transactions and start-up.
const (
	setTeam = `SELECT set_config('tucdesk.team', $1, true)` // PostgreSQL only

	// roleBypasses finds a connection for which row-level security does not hold.
	roleBypasses = `SELECT count(*) FROM pg_roles WHERE rolname = current_user AND (rolsuper OR rolbypassrls)` // PostgreSQL only
)

// Teams, rosters, policies.
const (
	insertTeam = `INSERT INTO teams (team_id, fingerprint, root, setup, roster_version, audit_size, created_at)
		VALUES ($1, $2, $3, $4, $5, 0, $6) ON CONFLICT DO NOTHING`
	teamColumns      = `SELECT team_id, fingerprint, root, roster_version, created_at`
	selectTeams      = teamColumns + ` FROM teams ORDER BY created_at, team_id`
	selectTeam       = teamColumns + ` FROM teams WHERE team_id = $1`
	raiseRoster      = `UPDATE teams SET roster_version = $2 WHERE team_id = $1 AND roster_version = $3`
	insertRoster     = `INSERT INTO roster_updates (team_id, version, hash, body, created_at) VALUES ($1, $2, $3, $4, $5)`
	selectRosters    = `SELECT body FROM roster_updates WHERE team_id = $1 AND version > $2 ORDER BY version`
	selectRosterHash = `SELECT hash FROM roster_updates WHERE team_id = $1 AND version = $2`
	insertPolicy     = `INSERT INTO policies (team_id, hash, body) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`
	selectPolicy     = `SELECT body FROM policies WHERE team_id = $1 AND hash = $2`
	insertSetupCode  = `INSERT INTO setup_codes (hash, expires_at, used_at) VALUES ($1, $2, 0)`
	useSetupCode     = `UPDATE setup_codes SET used_at = $2 WHERE hash = $1 AND used_at = 0 AND expires_at > $2`
)

// Join tokens and agents.
const (
	insertToken = `INSERT INTO join_tokens (team_id, token_id, statement, max_uses, used, expires_at, created_at)
		VALUES ($1, $2, $3, $4, 0, $5, $6) ON CONFLICT DO NOTHING`
	selectToken  = `SELECT statement, used FROM join_tokens WHERE team_id = $1 AND token_id = $2`
	selectTokens = `SELECT statement, used FROM join_tokens WHERE team_id = $1 ORDER BY created_at DESC, token_id LIMIT $2`
	useToken     = `UPDATE join_tokens SET used = used + 1
		WHERE team_id = $1 AND token_id = $2 AND used < max_uses AND expires_at > $3`

	insertAgent = `INSERT INTO agents (team_id, kid, name, token_id, token, certificate, registration, platform, hostname, version, joined_at, last_seen, deleted_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, 0) ON CONFLICT DO NOTHING`
	updateAgent = `UPDATE agents SET registration = $3, platform = $4, hostname = $5, version = $6, last_seen = $7
		WHERE team_id = $1 AND kid = $2 AND certificate = $8 AND deleted_at = 0`
	agentColumns   = `SELECT kid, name, token_id, token, certificate, registration, platform, hostname, version, joined_at, last_seen, deleted_at FROM agents `
	selectAgent    = agentColumns + `WHERE team_id = $1 AND kid = $2`
	selectAgents   = agentColumns + `WHERE team_id = $1 AND deleted_at = 0 AND name > $2 ORDER BY name LIMIT $3`
	selectAllByKid = agentColumns + `WHERE team_id = $1 AND kid > $2 ORDER BY kid LIMIT $3`
	countName      = `SELECT count(*) FROM agents WHERE team_id = $1 AND name = $2`
	deleteAgent    = `UPDATE agents SET deleted_at = $3, name = NULL WHERE team_id = $1 AND kid = $2 AND deleted_at = 0`
	sawAgent       = `UPDATE agents SET last_seen = CASE WHEN last_seen < $3 THEN $3 ELSE last_seen END WHERE team_id = $1 AND kid = $2 AND deleted_at = 0`
	noteLogged     = `UPDATE agents SET logged = $3 WHERE team_id = $1 AND kid = $2 AND logged <> $3`
	lockAgent      = `UPDATE agents SET deleted_at = 0 WHERE team_id = $1 AND kid = $2 AND deleted_at = 0`
)

// Requests and approvals.
const (
	insertRequest = `INSERT INTO requests (team_id, hash, session_id, operator, agent, statement, open, state, rule, need, roles, created_at, expires_at, changed_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $12) ON CONFLICT DO NOTHING`
	requestColumns = `SELECT hash, session_id, operator, agent, statement, open, state, rule, need, roles, created_at, expires_at FROM requests `
	selectRequest  = requestColumns + `WHERE team_id = $1 AND hash = $2`
	selectRequests = requestColumns + `WHERE team_id = $1
		ORDER BY CASE WHEN state IN ('pending', 'approved') THEN 0 ELSE 1 END, created_at DESC, hash LIMIT $2`
	countOpen     = `SELECT count(*) FROM requests WHERE team_id = $1 AND operator = $2 AND state IN ('pending', 'approved')`
	nextDue       = `SELECT COALESCE(min(expires_at), 0) FROM requests WHERE team_id = $1 AND state IN ('pending', 'approved')`
	moveRequest   = `UPDATE requests SET state = $4, changed_at = $5 WHERE team_id = $1 AND hash = $2 AND state = $3`
	reopenRequest = `UPDATE requests SET state = 'pending', rule = $3, need = $4, roles = $5, changed_at = $6
		WHERE team_id = $1 AND hash = $2 AND state = 'used' AND expires_at > $6`
	touchOpenRequest = `UPDATE requests SET changed_at = $3
		WHERE team_id = $1 AND hash = $2 AND state IN ('pending', 'approved') AND expires_at > $3`
	expireRequests = `UPDATE requests SET state = 'expired', changed_at = $2
		WHERE team_id = $1 AND state IN ('pending', 'approved') AND expires_at <= $2 RETURNING hash`
	insertApproval = `INSERT INTO approvals (team_id, request_hash, approver, decision, nonce, hash, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`
	insertEvidence  = `INSERT INTO evidence (team_id, hash, statement) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`
	selectApprovals = `SELECT e.statement FROM approvals a JOIN evidence e ON e.team_id = a.team_id AND e.hash = a.hash
		WHERE a.team_id = $1 AND a.request_hash = $2 ORDER BY a.created_at, a.nonce`
	selectApprovalByHash = `SELECT statement FROM evidence WHERE team_id = $1 AND hash = $2`

	settledSince  = `SELECT changed_at FROM requests WHERE team_id = $1 AND state NOT IN ('pending', 'approved') ORDER BY changed_at DESC LIMIT 1 OFFSET $2`
	pruneApproval = `DELETE FROM approvals WHERE team_id = $1 AND request_hash IN (SELECT hash FROM requests
		WHERE team_id = $1 AND state NOT IN ('pending', 'approved') AND changed_at <= $2 AND expires_at < $3)`
	pruneRequests = `DELETE FROM requests WHERE team_id = $1 AND state NOT IN ('pending', 'approved') AND changed_at <= $2 AND expires_at < $3`
)

// Replay: principals of many kinds, also ones whose team is not known yet.
const (
	insertReplay = `INSERT INTO replay (principal, id, expires_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
		RETURNING (SELECT expires_at FROM replay_floor WHERE one = 1)`
	raiseFloor = `UPDATE replay_floor SET expires_at = (SELECT max(expires_at) FROM replay WHERE expires_at < $1)
		WHERE one = 1 AND expires_at < (SELECT max(expires_at) FROM replay WHERE expires_at < $1)`

	// selectTeamFor is selectTeam and whether a login, whose end has the id $3 and is at
	// $4, was ended under the name $2: by itself, with a later one, which is behind $5, or
	// so long ago that it may have been forgotten. What is behind $6 was written by a
	// clock that ran ahead (attack K18), and ends only itself.
	selectTeamFor = teamColumns + `, $4 <= (SELECT expires_at FROM replay_floor WHERE one = 1) OR
		EXISTS (SELECT 1 FROM replay WHERE principal = $2 AND id = $3) OR
		EXISTS (SELECT 1 FROM replay WHERE principal = $2 AND id > $5 AND id <= $6)
		FROM teams WHERE team_id = $1`

	pruneReplay     = `DELETE FROM replay WHERE expires_at <= (SELECT expires_at FROM replay_floor WHERE one = 1)`
	pruneSetupCodes = `DELETE FROM setup_codes WHERE expires_at < $1`
)

// The audit log.
const (
	extendAudit      = `UPDATE teams SET audit_size = audit_size + $2 WHERE team_id = $1 RETURNING audit_size`
	selectAuditSize  = `SELECT audit_size FROM teams WHERE team_id = $1`
	insertAuditEntry = `INSERT INTO audit_entries (team_id, idx, entry_id, body) VALUES ($1, $2, $3, $4)`
	selectAuditRange = `SELECT body FROM audit_entries WHERE team_id = $1 AND idx >= $2 AND idx < $3 ORDER BY idx`
	insertAuditHash  = `INSERT INTO audit_hashes (team_id, idx, hash) VALUES ($1, $2, $3)`
	selectAuditHash  = `SELECT hash FROM audit_hashes WHERE team_id = $1 AND idx = $2`
	selectAuditHead  = `SELECT seq, hash FROM audit_heads WHERE team_id = $1 AND signer = $2`
	upsertAuditHead  = `INSERT INTO audit_heads (team_id, signer, seq, hash) VALUES ($1, $2, $3, $4)
		ON CONFLICT (team_id, signer) DO UPDATE SET seq = excluded.seq, hash = excluded.hash`
	insertCheckpoint  = `INSERT INTO audit_checkpoints (team_id, size, note) VALUES ($1, $2, $3)`
	lastCheckpoint    = `SELECT note FROM audit_checkpoints WHERE team_id = $1 ORDER BY size DESC LIMIT 1`
	selectCheckpoints = `SELECT note FROM audit_checkpoints WHERE team_id = $1 AND size > $2 ORDER BY size LIMIT $3`
	selectAuditIndex  = `SELECT idx FROM audit_entries WHERE team_id = $1 AND entry_id = $2`

	upsertEnd = `INSERT INTO agent_ends (team_id, agent, session_id, operator, seq, entry_id, received_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (team_id, agent, session_id, operator) DO UPDATE
		SET seq = excluded.seq, entry_id = excluded.entry_id, received_at = excluded.received_at WHERE agent_ends.seq < excluded.seq`
	selectEnd = `SELECT e.body FROM agent_ends a JOIN audit_entries e ON e.team_id = a.team_id AND e.entry_id = a.entry_id
		WHERE a.team_id = $1 AND a.agent = $2 AND (a.session_id = $3 AND a.operator = $4 OR a.session_id = $5 AND a.operator = $6)
		ORDER BY CASE WHEN a.session_id = $3 THEN 0 ELSE 1 END LIMIT 1`
	pruneEnds = `DELETE FROM agent_ends WHERE team_id = $1 AND received_at <= $2`

	upsertCosignature = `INSERT INTO audit_cosignatures (team_id, size, signer, line, received_at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (team_id, size, signer) DO UPDATE SET line = excluded.line, received_at = excluded.received_at`
	trimCosignatures = `DELETE FROM audit_cosignatures WHERE team_id = $1 AND size = $2 AND signer NOT IN
		(SELECT signer FROM audit_cosignatures WHERE team_id = $1 AND size = $2 ORDER BY received_at DESC, signer LIMIT $3)`
	pruneCosignatures = `DELETE FROM audit_cosignatures WHERE team_id = $1 AND size <
		(SELECT size FROM (SELECT DISTINCT size FROM audit_cosignatures WHERE team_id = $1) AS cosigned ORDER BY size DESC LIMIT 1 OFFSET $2)`
	selectCosignatures = `SELECT size, line FROM audit_cosignatures WHERE team_id = $1 AND size > $2 AND size <= $3
		ORDER BY size, received_at DESC, signer`
)
