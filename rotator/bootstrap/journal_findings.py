"""What `doctor` finds out about the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotator.bootstrap import findings
from rotator.bootstrap.journal_integrity import JournalIntegrity
from rotator.core.daemon_settings import Topic
from rotator.journal import definitions
from rotator.references import parse

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from rotator.bootstrap.wiring import Wiring
    from rotator.core.model import Finding

# Of names in one line.
_SHOWN: Final = 5


def journal(parts: Wiring, away: Collection[str]) -> list[Finding]:
    """Verify the journal; `away`: backends that do not answer, and are not compared."""
    report = JournalIntegrity(parts).verify(without=away)
    if report.ok:
        message = f"{report.events} events, sound"
        missed = [*sorted(away), *(unread.where for unread in report.unread)]
        if missed:
            message += f"; not compared with {', '.join(missed[:_SHOWN])}"
            message += f" and {len(missed) - _SHOWN} more" if len(missed) > _SHOWN else ""
        if report.acknowledged:
            reasons = ", ".join(sorted({why for _, why in report.acknowledged}))
            message += f"; restores acknowledged: {reasons}"
        found = [findings.ok("journal", message)]
    else:
        first = report.damage[0]
        message = f"{len(report.damage)} place(s) were changed after they were written, first {first.where}: {first.what}"
        remedy = "See: rotator audit verify"
        if all(damage.restore is not None for damage in report.damage):
            remedy += ". After a restore: rotator audit acknowledge --reason WHY"
        found = [findings.error("journal", message, remedy)]
    with parts.journal.reading() as db:
        if db.dialect.name != "sqlite" and definitions.owns(db):
            message = (
                "its login owns the tables, so it can drop the triggers that protect the events"
            )
            remedy = (
                "Give it a login with fewer rights: `rotator docs journal`, section On PostgreSQL."
            )
            found.append(findings.warning("journal", message, remedy))
    found += _witness(parts)
    if parts.settings.journal.signing_key is None:
        message = "no signing key: truncation at the end of the journal cannot be detected"
        remedy = "Set journal.signing_key; `rotator init` shows how."
        found.append(findings.warning("journal", message, remedy))
    return found


def _witness(parts: Wiring) -> list[Finding]:
    """Return a warning where one copy of one folder restores everything that could prove a restore."""
    key, journal = parts.settings.journal.signing_key, parts.journal.url
    witnessed = any(Topic.CHECKPOINT in one.topics for one in parts.settings.notifications)
    if key is None or witnessed or journal.get_backend_name() != "sqlite":
        return []
    backend = parts.settings.backends[parse(key).scheme]
    file = getattr(backend.options, "path", None)
    here = _folder_of(journal.database, parts.settings.base)
    if backend.type != "local" or file is None or _folder_of(file, parts.settings.base) != here:
        return []
    message = (
        "journal, backend and signing key are in one folder: an older copy of it cannot be detected"
    )
    remedy = "Send checkpoints to a witness: `rotator docs journal-security`, section Witnesses."
    return [findings.warning("witness", message, remedy)]


def _folder_of(file: object, base: Path) -> Path:
    return (base / str(file)).expanduser().resolve().parent
