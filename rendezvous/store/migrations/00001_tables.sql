-- Tables of the rendezvous, the same text for SQLite and PostgreSQL.
-- Times are milliseconds since 1970 UTC, statements the bytes as they were signed,
-- ids and hashes raw bytes. Every table with a team_id is behind row-level security
-- in PostgreSQL (next file), and every query on one names team_id.

-- +goose Up

CREATE TABLE teams (
    team_id        BYTEA  NOT NULL PRIMARY KEY CHECK (length(team_id) = 16),
    fingerprint    BYTEA  NOT NULL UNIQUE,
    root           BYTEA  NOT NULL,
    setup          BYTEA  NOT NULL,
    roster_version BIGINT NOT NULL,
    audit_size     BIGINT NOT NULL,  -- entries in the team's log; its row lock orders them
    created_at     BIGINT NOT NULL
);

CREATE TABLE roster_updates (
    team_id    BYTEA  NOT NULL REFERENCES teams (team_id),
    version    BIGINT NOT NULL,
    hash       BYTEA  NOT NULL,
    body       BYTEA  NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (team_id, version)
);

CREATE TABLE policies (
    team_id    BYTEA  NOT NULL REFERENCES teams (team_id),
    hash       BYTEA  NOT NULL,
    body       BYTEA  NOT NULL,
    PRIMARY KEY (team_id, hash)
);

CREATE TABLE join_tokens (
    team_id    BYTEA  NOT NULL REFERENCES teams (team_id),
    token_id   BYTEA  NOT NULL CHECK (length(token_id) = 16),
    statement  BYTEA  NOT NULL,
    max_uses   BIGINT NOT NULL,
    used       BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (team_id, token_id)
);

-- A deleted agent keeps its row without a name: its key stays taken for ever, and
-- its statements stay at hand for whoever verifies the log.
CREATE TABLE agents (
    kid          BYTEA  NOT NULL PRIMARY KEY CHECK (length(kid) = 32),
    team_id      BYTEA  NOT NULL REFERENCES teams (team_id),
    name         TEXT,
    token_id     BYTEA  NOT NULL,
    token        BYTEA  NOT NULL,
    certificate  BYTEA  NOT NULL,
    registration BYTEA  NOT NULL,
    platform     TEXT   NOT NULL,
    hostname     TEXT   NOT NULL,
    version      TEXT   NOT NULL,
    joined_at    BIGINT NOT NULL,
    last_seen    BIGINT NOT NULL,
    deleted_at   BIGINT NOT NULL,
    UNIQUE (team_id, name)
);

CREATE TABLE requests (
    team_id    BYTEA  NOT NULL REFERENCES teams (team_id),
    hash       BYTEA  NOT NULL CHECK (length(hash) = 32),
    session_id BYTEA  NOT NULL,
    operator   BYTEA  NOT NULL,
    agent      BYTEA  NOT NULL,
    statement  BYTEA  NOT NULL,
    open       BYTEA  NOT NULL,
    state      TEXT   NOT NULL,
    rule       TEXT   NOT NULL,
    need       BIGINT NOT NULL,
    roles      TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (team_id, hash),
    UNIQUE (team_id, session_id)
);

CREATE INDEX requests_by_time ON requests (team_id, created_at);

CREATE TABLE approvals (
    team_id      BYTEA  NOT NULL REFERENCES teams (team_id),
    request_hash BYTEA  NOT NULL,
    approver     BYTEA  NOT NULL,
    decision     TEXT   NOT NULL,
    nonce        BYTEA  NOT NULL CHECK (length(nonce) = 16),
    hash         BYTEA  NOT NULL,
    statement    BYTEA  NOT NULL,
    created_at   BIGINT NOT NULL,
    PRIMARY KEY (team_id, request_hash, approver, decision),
    UNIQUE (team_id, nonce),
    FOREIGN KEY (team_id, request_hash) REFERENCES requests (team_id, hash)
);

CREATE INDEX approvals_by_hash ON approvals (team_id, hash);

CREATE TABLE audit_entries (
    team_id  BYTEA  NOT NULL REFERENCES teams (team_id),
    idx      BIGINT NOT NULL,
    entry_id BYTEA  NOT NULL,
    body     BYTEA  NOT NULL,
    PRIMARY KEY (team_id, idx),
    UNIQUE (team_id, entry_id)
);

CREATE TABLE audit_hashes (
    team_id BYTEA  NOT NULL REFERENCES teams (team_id),
    idx     BIGINT NOT NULL,
    hash    BYTEA  NOT NULL,
    PRIMARY KEY (team_id, idx)
);

CREATE TABLE audit_heads (
    team_id BYTEA  NOT NULL REFERENCES teams (team_id),
    signer  BYTEA  NOT NULL,
    seq     BIGINT NOT NULL,
    hash    BYTEA  NOT NULL,
    PRIMARY KEY (team_id, signer)
);

-- One size has one checkpoint: the key makes a second one an error on any node.
CREATE TABLE audit_checkpoints (
    team_id BYTEA  NOT NULL REFERENCES teams (team_id),
    size    BIGINT NOT NULL,
    note    TEXT   NOT NULL,
    PRIMARY KEY (team_id, size)
);

CREATE TABLE replay (
    principal  TEXT   NOT NULL,
    id         BYTEA  NOT NULL CHECK (length(id) = 16),
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (principal, id)
);

CREATE INDEX replay_by_expiry ON replay (expires_at);

-- The latest expiry among the rows that were pruned: an id that ends no later may
-- have been seen and is refused (protocol 2.8, "eviction raises a floor").
CREATE TABLE replay_floor (
    one        BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    expires_at BIGINT NOT NULL
);

INSERT INTO replay_floor (one, expires_at) VALUES (1, 0);

CREATE TABLE setup_codes (
    hash       BYTEA  NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
    expires_at BIGINT NOT NULL,
    used_at    BIGINT NOT NULL
);
