"""The journal's schema: which version it has, and how it gets to ours (Alembic)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from rotator.core.errors import JournalError

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine as Database

# The newest revision in migrations/versions; a test holds it fresh. Knowing it here spares every
# start the import of Alembic.
HEAD: Final = "0008"


def revision(database: Database) -> str | None:
    """Return the schema's revision; None for a database without our tables."""
    with database.connect() as db:
        if not sa.inspect(db).has_table("alembic_version"):
            return None
        return db.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def check(database: Database, place: str) -> None:
    """Raise `JournalError` unless the schema is the one that this program knows."""
    found = revision(database)
    if found == HEAD:
        return
    if found is None:
        raise JournalError(
            f"the journal {place} is not set up yet.", hint="Set it up: rotator db upgrade"
        )
    try:
        older = found in known()
    except ImportError:
        # As in the rotation function's zip, where nothing can be upgraded.
        raise JournalError(
            f"the journal {place} has another version than this program ({found}; required:"
            f" {HEAD}).",
            safety="Nothing was read or changed.",
            hint="Use the same release for both: upgrade the database with rotator db upgrade, or"
            " upgrade this program.",
        ) from None
    if older:
        raise JournalError(
            f"the journal {place} has an older version ({found}; required: {HEAD}).",
            hint="Upgrade it: rotator db upgrade",
        )
    raise _newer(place, found)


def upgrade(database: Database) -> tuple[str | None, str]:
    """Bring the schema to `HEAD`; return the revisions before and after."""
    from alembic import command  # noqa: PLC0415 # 150 ms that only an upgrade has to pay

    before = revision(database)
    if before is not None and before not in known():
        raise _newer(database.url.render_as_string(hide_password=True), before)
    with database.begin() as connection:
        if connection.dialect.name == "sqlite":
            _ = connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            # Two machines that start at once upgrade one after the other.
            _ = connection.execute(sa.text("SELECT pg_advisory_xact_lock(7204319)"))
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, HEAD)
    return before, HEAD


def known() -> set[str]:
    """Return every revision that this program can upgrade from, and its own."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    return {one.revision for one in ScriptDirectory.from_config(_config()).walk_revisions()}


def folder() -> Path:
    """Return where the migrations are: packed in the wheel, or beside the checkout's packages."""
    packed = Path(__file__).parent / "migrations"
    return packed if packed.is_dir() else Path(__file__).parents[2] / "migrations"


def _config():  # noqa: ANN202 # Alembic is imported late
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(folder()).replace("%", "%%"))
    return config


def _newer(place: str, found: str) -> JournalError:
    return JournalError(
        f"the journal {place} was written by a newer rotator (its version is {found}, this"
        f" program supports {HEAD}).",
        safety="Nothing was read or changed.",
        hint="Install that newer version: pip install --upgrade credential-rotator",
    )
