-- Signed approvals are evidence that entries of the log name by their hash, so they
-- stay as long as the log does; requests and who decided about them are forgotten
-- some days after they are settled.
--
-- An agent's connection is logged when this digest of what there is to say about it
-- changes (see Tx.Notable).

-- +goose Up

CREATE TABLE evidence (
    team_id   BYTEA NOT NULL REFERENCES teams (team_id),
    hash      BYTEA NOT NULL CHECK (length(hash) = 32),
    statement BYTEA NOT NULL,
    PRIMARY KEY (team_id, hash)
);

INSERT INTO evidence (team_id, hash, statement) SELECT team_id, hash, statement FROM approvals;

DROP INDEX approvals_by_hash;

ALTER TABLE approvals DROP COLUMN statement;

CREATE INDEX requests_by_change ON requests (team_id, changed_at);

ALTER TABLE agents ADD COLUMN logged BYTEA NOT NULL DEFAULT '';
