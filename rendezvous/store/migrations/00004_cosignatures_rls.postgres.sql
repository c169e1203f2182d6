-- The second wall of the table before this file, PostgreSQL only (attack K11).

-- +goose Up

ALTER TABLE audit_cosignatures ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_cosignatures FORCE ROW LEVEL SECURITY;
CREATE POLICY own_team ON audit_cosignatures USING (encode(team_id, 'hex') = current_setting('tucdesk.team', true));
