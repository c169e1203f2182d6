-- The second wall of the table before this file, PostgreSQL only (attack K11).

-- +goose Up

ALTER TABLE agent_ends ENABLE ROW LEVEL SECURITY;
ALTER TABLE agent_ends FORCE ROW LEVEL SECURITY;
CREATE POLICY own_team ON agent_ends USING (encode(team_id, 'hex') = current_setting('tucdesk.team', true));
