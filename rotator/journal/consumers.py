"""The reports of consumers, in the journal's database, beside the chain."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from rotator.core.consumers import (
    REPORT_LASTS,
    InstanceKind,
    Level,
    Report,
    ReportedInstance,
    newer,
)
from rotator.core.model import Kind, Step
from rotator.journal import rows, tables
from rotator.journal.dialects import insert

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection

    from rotator.core.ports import Clock
    from rotator.journal.sql import SqlJournal

_consumers: Final = tables.consumers
_KEY: Final = (_consumers.c.secret, _consumers.c.consumer, _consumers.c.instance)
# The next version of a secret is a subject of its own: no name of a secret contains this.
_NEXT: Final = "#next"
# Keys in one query: three variables each, and SQLite takes 32,766
# (https://www.sqlite.org/limits.html, SQLITE_MAX_VARIABLE_NUMBER).
_AT_ONCE: Final = 1000


class SqlConsumers:
    """Keeps the newest report of each instance."""

    def __init__(self, journal: SqlJournal, clock: Clock) -> None:
        """Nothing is asked yet."""
        self._journal: SqlJournal = journal
        self._clock: Clock = clock

    def report(self, reports: Sequence[Report]) -> set[str]:
        """Write reports in the place of those before; return the secrets for which something is new.

        All are one transaction. Reports of instances that are gone are removed with it.
        """
        newest = {_key(report): report for report in reports}
        if not newest:
            return set()
        now = self._clock.now()
        with self._journal.signing() as db:
            known = _known(db, list(newest))
            changed = {key: newer(known.get(key), report) for key, report in newest.items()}
            _write(db, changed.values(), rows.stamp(now))
            gone = _consumers.c.at < rows.stamp(now - REPORT_LASTS)
            _ = db.execute(sa.delete(_consumers).where(gone))
        return {report.secret for key, report in changed.items() if report != known.get(key)}

    def instances(self, secret: str | None = None) -> list[ReportedInstance]:
        """Return the instances of a secret, or of all, that have reported within `REPORT_LASTS`."""
        subject = _consumers.c.secret
        chosen = subject == secret if secret is not None else subject.not_like(f"%{_NEXT}")
        return self._alive(chosen)

    def reporting(self) -> frozenset[str]:
        """Return the secrets of which an instance has reported within `REPORT_LASTS`."""
        lately = _consumers.c.at >= rows.stamp(self._clock.now() - REPORT_LASTS)
        query = sa.select(_consumers.c.secret).where(lately).distinct()
        with self._journal.reading() as db:
            return frozenset(name.removesuffix(_NEXT) for name in db.execute(query).scalars())

    def prepared(self, secret: str) -> list[ReportedInstance]:
        """Return the instances that have read the secret's next version, within `REPORT_LASTS`."""
        return self._alive(_consumers.c.secret == secret + _NEXT)

    def _alive(self, chosen: ColumnElement[bool]) -> list[ReportedInstance]:
        alive = _consumers.c.at >= rows.stamp(self._clock.now() - REPORT_LASTS)
        query = sa.select(_consumers).where(alive, chosen).order_by(*_KEY)
        with self._journal.reading() as db:
            return [
                ReportedInstance(report=_report(row), at=datetime.fromisoformat(row["at"]))
                for row in db.execute(query).mappings()
            ]

    def unpublished(self, versions: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return those of (secret, version) that the journal has never known as served."""
        secrets, rotations = tables.secrets, tables.rotations
        found: set[tuple[str, str]] = set()
        with self._journal.reading() as db:
            for secret, version in versions:
                served = sa.or_(
                    rotations.c.new_version == version, rotations.c.old_version == version
                )
                either = sa.or_(
                    sa.exists().where(rotations.c.secret == secret, served),
                    sa.exists().where(secrets.c.name == secret, secrets.c.version == version),
                )
                if not db.execute(sa.select(either)).scalar():
                    found.add((secret, version))
        return found

    def unknown_rotations(self, named: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return those of (secret, rotation) that the journal does not know."""
        rotations, found = tables.rotations, set[tuple[str, str]]()
        with self._journal.reading() as db:
            for secret, rotation in named:
                known = sa.exists().where(rotations.c.id == rotation, rotations.c.secret == secret)
                if not db.execute(sa.select(known)).scalar():
                    found.add((secret, rotation))
        return found

    def following(self, secrets: Collection[str]) -> dict[str, str]:
        """Return the rotation of each of these secrets whose next version consumers can read."""
        name, opened = tables.secrets.c.name, tables.secrets.c.open_rotation
        events, wanted, found = tables.events, sorted(secrets), dict[str, str]()
        steps = (Step.PREPARE.value, Step.PUBLISH.value, Step.WITHDRAW.value, Step.DISCARD.value)
        with self._journal.reading() as db:
            for start in range(0, len(wanted), _AT_ONCE):
                part = wanted[start : start + _AT_ONCE]
                query = (
                    sa.select(name, opened, events.c.kind, events.c.step)
                    .join(events, events.c.rotation_id == opened)
                    .where(name.in_(part), opened.is_not(None), events.c.step.in_(steps))
                    .order_by(name, events.c.seq)
                )
                for one, rotation, kind, step in db.execute(query):
                    if step == Step.PREPARE.value and kind != Kind.STARTED.value:
                        found[str(one)] = str(rotation)
                    elif step != Step.PREPARE.value and (
                        step != Step.PUBLISH.value or kind == Kind.FINISHED.value
                    ):
                        _ = found.pop(str(one), None)
        return found

    def served(self, secrets: Collection[str]) -> dict[str, str]:
        """Return the version that each of these secrets serves, by the journal; unknown ones are left out."""
        name, version = tables.secrets.c.name, tables.secrets.c.version
        wanted, found = sorted(secrets), dict[str, str]()
        with self._journal.reading() as db:
            for start in range(0, len(wanted), _AT_ONCE):
                part = wanted[start : start + _AT_ONCE]
                query = sa.select(name, version).where(name.in_(part), version.is_not(None))
                found.update({str(one): str(at) for one, at in db.execute(query)})
        return found


def _key(report: Report) -> tuple[str, str, str]:
    return _subject(report), report.consumer, report.instance


def _subject(report: Report) -> str:
    return report.secret + (_NEXT if report.level is Level.PREPARED else "")


def _known(db: Connection, keys: list[tuple[str, str, str]]) -> dict[tuple[str, str, str], Report]:
    found: dict[tuple[str, str, str], Report] = {}
    for start in range(0, len(keys), _AT_ONCE):
        part = sa.tuple_(*_KEY).in_(keys[start : start + _AT_ONCE])
        for row in db.execute(sa.select(_consumers).where(part)).mappings():
            report = _report(row)
            found[_key(report)] = report
    return found


def _write(db: Connection, reports: Iterable[Report], at: str) -> None:
    new = insert(_consumers, db.dialect.name)
    values = ("kind", "version", "level", "at")
    statement = new.on_conflict_do_update(
        index_elements=[column.name for column in _KEY],
        set_={name: new.excluded[name] for name in values},
    )
    _ = db.execute(statement, [{**_row(report), "at": at} for report in reports])


def _row(report: Report) -> dict[str, str]:
    return {
        "secret": _subject(report),
        "consumer": report.consumer,
        "instance": report.instance,
        "kind": report.kind.value,
        "version": report.version,
        # A level that releases before `prepared` know too.
        "level": (Level.READ if report.level is Level.PREPARED else report.level).value,
    }


def _report(row: Mapping[str, str] | rows.Read) -> Report:
    is_next = row["secret"].endswith(_NEXT)
    return Report(
        secret=row["secret"].removesuffix(_NEXT),
        consumer=row["consumer"],
        instance=row["instance"],
        kind=InstanceKind(row["kind"]),
        version=row["version"],
        level=Level.PREPARED if is_next else Level(row["level"]),
    )
