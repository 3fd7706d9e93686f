"""Runs the journal's migrations on the connection that `rotator.journal.migrate` hands over."""

from alembic import context

connection = context.config.attributes.get("connection")
if connection is None:
    msg = "Migrations are run by `rotator db upgrade`."
    raise SystemExit(msg)

context.configure(connection=connection, target_metadata=None)
context.run_migrations()
