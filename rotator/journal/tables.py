"""The tables of the journal. SQLite and PostgreSQL hold the same texts, byte for byte."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Table, Text, text

# The migrations make the indexes, on PostgreSQL with the same conditions: naming them here would import
# its dialect, which a journal in a file does not need.
metadata: Final = MetaData()
# By this the secrets are found that are in an incident; `details` holds a key only where it has a value.
_IN_INCIDENT: Final = "details LIKE '%\"incident\":%'"
IN_INCIDENT: Final = text(_IN_INCIDENT)
_REPORTS_LEAK: Final = "kind = 'leaked' AND rotation_id IS NULL"
REPORTS_LEAK: Final = text(_REPORTS_LEAK)

# Append-only, by trigger. (secret, seq) is the whole identity: there is no other number to change.
events: Final = Table(
    "events",
    metadata,
    Column("secret", Text, primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("rotation_id", Text),
    Column("step", Text),
    Column("data", Text, nullable=False),
    Column("prev_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
    # The code that only a writer of ours can make; NULL in what was written before there was a key.
    Column("mac", Text),
    Index("events_of_a_rotation", "rotation_id"),
    Index(
        "events_of_leaks",
        "at",
        sqlite_where=text(_REPORTS_LEAK),
    ),
)

# A fold over the events, and the lock (`lease_...`). `seal` is a digest of the other columns of the row.
secrets: Final = Table(
    "secrets",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Text),
    Column("login", Text),
    Column("adopted", Text, nullable=False),
    Column("parked", Text),
    Column("failures", Integer, nullable=False),
    Column("rotated_at", Text),
    Column("next_due", Text),
    Column("since", Text),
    Column("timing", Text),
    Column("last_outcome", Text),
    Column("open_rotation", Text),
    Column("seq", Integer, nullable=False),
    Column("head", Text, nullable=False),
    Column("lease_holder", Text),
    Column("lease_fence", Integer, nullable=False),
    Column("lease_expires", Text),
    Column("seal", Text, nullable=False),
    # What few secrets have, as JSON; NULL for none of it. See `rows.DETAILS`.
    Column("details", Text),
    # What a daemon asks for again and again costs by what it finds.
    Index(
        "secrets_due",
        "next_due",
        sqlite_where=text("parked IS NULL AND open_rotation IS NULL"),
    ),
    Index(
        "secrets_open",
        "open_rotation",
        sqlite_where=text("open_rotation IS NOT NULL"),
    ),
    Index(
        "secrets_in_incident",
        "name",
        sqlite_where=text(_IN_INCIDENT),
    ),
)

# A fold over the events.
rotations: Final = Table(
    "rotations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("secret", Text, nullable=False),
    Column("plugin", Text, nullable=False),
    Column("strategy", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("started_at", Text, nullable=False),
    Column("old_version", Text),
    Column("old_login", Text),
    Column("new_version", Text),
    Column("new_login", Text),
    Column("published_at", Text),
    Column("old_refused", Integer),
    Column("ended_at", Text),
    Column("outcome", Text),
    Column("seal", Text, nullable=False),
    Index("rotations_of_a_secret", "secret", "started_at"),
    Index(
        "one_open_rotation_a_secret",
        "secret",
        unique=True,
        sqlite_where=text("ended_at IS NULL"),
    ),
)

# A fold over the events of leases.
leases: Final = Table(
    "leases",
    metadata,
    Column("id", Text, primary_key=True),
    Column("secret", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("holder", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("login", Text),
    Column("requested_at", Text, nullable=False),
    Column("begun_at", Text, nullable=False),
    Column("ends_at", Text, nullable=False),
    Column("latest", Text, nullable=False),
    Column("instances", Text, nullable=False),
    Column("next_at", Text),
    Column("failures", Integer, nullable=False),
    Column("problem", Text),
    Column("hint", Text),
    Column("outcome", Text),
    Column("ended_at", Text),
    Column("seal", Text, nullable=False),
    # A look costs by what is to be done, and a limit by what is open.
    Index("leases_to_do", "next_at", sqlite_where=text("next_at IS NOT NULL")),
    Index("leases_open", "secret", sqlite_where=text("next_at IS NOT NULL")),
    Index("leases_by_time", "requested_at"),
)

# Append-only, by trigger. `heads` holds {chain: [seq, hash]} of the chains that grew since the
# checkpoint before: those of secrets, and of the requests of each writer.
checkpoints: Final = Table(
    "checkpoints",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", Text, nullable=False),
    Column("heads", Text, nullable=False),
    Column("prev_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("signature", Text, nullable=False),
)

# Beside the chain, and no part of it: who is alive, what is away, what was seen. Rewritten freely.
observations: Final = Table(
    "observations",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("at", Text, nullable=False),
    Column("until", Text),
    Column("data", Text, nullable=False),
)

# Beside the chain too: which version each instance of a consumer uses, by its newest report.
consumers: Final = Table(
    "consumers",
    metadata,
    Column("secret", Text, primary_key=True),
    Column("consumer", Text, primary_key=True),
    Column("instance", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("level", Text, nullable=False),
    Column("at", Text, nullable=False),
)

# Beside the chain too: who read which version, counted, by the audit logs of the backends.
reads: Final = Table(
    "reads",
    metadata,
    Column("secret", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("identity", Text, primary_key=True),
    Column("address", Text, primary_key=True),
    Column("first", Text, nullable=False),
    Column("last", Text, nullable=False),
    Column("count", Integer, nullable=False),
)
# How far each of these logs was read.
read_logs: Final = Table(
    "read_logs",
    metadata,
    Column("log", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("at", Text, nullable=False),
)

# Append-only, by trigger: what is asked of engines, a chain for each writer. Beside the chains of the
# secrets, which only engines write.
requests: Final = Table(
    "requests",
    metadata,
    Column("writer", Text, primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("data", Text, nullable=False),
    Column("prev_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
    # By the writer's own key, or by the key of all engines; NULL where there is none.
    Column("signature", Text),
    Index("entries_of_a_request", "request"),
    Index("requests_by_time", "at"),
)

APPEND_ONLY: Final = ("events", "checkpoints", "requests")
# What `audit verify` answers for.
AUDITED: Final = (checkpoints, events, leases, requests, rotations, secrets)
