-- Where the log has an agent's word that a session is over: by the session and the
-- operator who had it or, with zeros for both, by the agent's latest start, which
-- ended whatever it had before. It only finds entries of the log, and is forgotten
-- when nobody waits for those sessions any more.

-- +goose Up

CREATE TABLE agent_ends (
    team_id     BYTEA  NOT NULL REFERENCES teams (team_id),
    agent       BYTEA  NOT NULL CHECK (length(agent) = 32),
    session_id  BYTEA  NOT NULL CHECK (length(session_id) = 16),
    operator    BYTEA  NOT NULL CHECK (length(operator) = 32),
    seq         BIGINT NOT NULL,
    entry_id    BYTEA  NOT NULL,
    received_at BIGINT NOT NULL,
    PRIMARY KEY (team_id, agent, session_id, operator)
);
