"""Inserts that know what to do with a row that exists: each kind of database has its own form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Table


def insert(table: Table, dialect: str) -> Any:
    """Return an insert that takes `on_conflict_do_nothing` and `on_conflict_do_update`."""
    # A journal in a file need not wait for the other one's import: a tenth of a second.
    if dialect == "sqlite":
        from sqlalchemy.dialects import sqlite  # noqa: PLC0415

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415

    return postgresql.insert(table)
