-- Cosignatures of checkpoints by agents and operators (protocol 5.3): for each
-- checkpoint the newest few, for the newest checkpoints only. Signer is a key id,
-- line the signature line of the note.

-- +goose Up

CREATE TABLE audit_cosignatures (
    team_id     BYTEA  NOT NULL REFERENCES teams (team_id),
    size        BIGINT NOT NULL,
    signer      BYTEA  NOT NULL CHECK (length(signer) = 32),
    line        TEXT   NOT NULL,
    received_at BIGINT NOT NULL,
    PRIMARY KEY (team_id, size, signer),
    FOREIGN KEY (team_id, size) REFERENCES audit_checkpoints (team_id, size)
);
