-- The rights of a login that reads the journal and appends requests, and can do no more: for a console, or
-- for the command line of people without access. Run it as the owner of the tables, after `rotator db upgrade`
-- and journal-role.sql, and again after each upgrade:
--
--   psql -v ON_ERROR_STOP=1 -f console-role.sql "postgresql://rotator_owner@audit-db.example.org/rotator"
--
-- The login is called `rotator_console`: CREATE ROLE rotator_console LOGIN; \password rotator_console

REVOKE ALL ON events, checkpoints, requests, secrets, rotations, leases, observations, consumers,
    alembic_version
    FROM rotator_console;
GRANT SELECT ON events, checkpoints, secrets, rotations, leases, observations, consumers,
    alembic_version
    TO rotator_console;
GRANT SELECT, INSERT ON requests TO rotator_console;
