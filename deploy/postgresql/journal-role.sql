-- The rights of the login with which rotator works on a journal in PostgreSQL: it adds events and
-- checkpoints, and can neither change nor remove one, nor drop the triggers. As docs/reference/journal.md says,
-- `rotator db upgrade` has made the tables before, as another login, which owns them. Run this as that
-- owner, once, and again after each upgrade:
--
--   psql -v ON_ERROR_STOP=1 -f journal-role.sql "postgresql://rotator_owner@audit-db.example.org/rotator"
--
-- The login is called `rotator`: CREATE ROLE rotator LOGIN; \password rotator

REVOKE ALL ON events, checkpoints, requests, secrets, rotations, observations, consumers,
    alembic_version
    FROM PUBLIC, rotator;
GRANT SELECT, INSERT ON events, checkpoints, requests TO rotator;
GRANT SELECT, INSERT, UPDATE ON secrets, rotations, leases TO rotator;
GRANT SELECT, INSERT, UPDATE, DELETE ON observations, consumers, reads, read_logs TO rotator;
GRANT SELECT ON alembic_version TO rotator;

-- The queue of `dispatch: procrastinate`, where there is one. It proves nothing and may be thrown away.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'rotator_queue') THEN
        GRANT USAGE ON SCHEMA rotator_queue TO rotator;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA rotator_queue TO rotator;
        GRANT USAGE ON ALL SEQUENCES IN SCHEMA rotator_queue TO rotator;
        GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA rotator_queue TO rotator;
    END IF;
END
$$;
