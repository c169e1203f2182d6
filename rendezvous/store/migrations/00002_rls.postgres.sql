-- Row-level security, PostgreSQL only: the second wall behind the queries' own
-- team_id (attack K11). Each transaction names its team in the setting tucdesk.team;
-- without it no row is visible. FORCE makes this hold for the tables' owner too.
-- Only the list of teams has a wider view, for the server's start.

-- +goose Up

-- +goose StatementBegin
DO $$
DECLARE
    t TEXT;
BEGIN
    FOREACH t IN ARRAY ARRAY['teams', 'roster_updates', 'policies', 'join_tokens', 'agents', 'requests', 'approvals',
                             'audit_entries', 'audit_hashes', 'audit_heads', 'audit_checkpoints']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY own_team ON %I USING (encode(team_id, ''hex'') = current_setting(''tucdesk.team'', true))', t);
    END LOOP;
END
$$;
-- +goose StatementEnd

CREATE POLICY list_teams ON teams FOR SELECT USING (current_setting('tucdesk.team', true) = '*');
