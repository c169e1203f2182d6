-- The second wall of the tables before this file, PostgreSQL only (attack K11).

-- +goose Up

ALTER TABLE approvals FORCE ROW LEVEL SECURITY;
ALTER TABLE evidence ENABLE ROW LEVEL SECURITY;
ALTER TABLE evidence FORCE ROW LEVEL SECURITY;
CREATE POLICY own_team ON evidence USING (encode(team_id, 'hex') = current_setting('tucdesk.team', true));
