"""Builds a report: a head with all figures, and one entry for each secret, kept in a file meanwhile."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections import Counter
from dataclasses import dataclass, field
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Any, Final, TypedDict

from rotator.core.target_logins import LoginState
from rotator.journal.chain import stamp
from rotator.report.controls import Framework, controls
from rotator.report.coverage import Coverage
from rotator.report.model import LATE_AFTER, NOT_COVERED
from rotator.report.reading import JournalReading

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from datetime import datetime, timedelta
    from types import TracebackType
    from typing import Self

    from rotator.core.incident_timeline import Timeline
    from rotator.core.model import Json
    from rotator.journal.sql import SqlJournal
    from rotator.report.model import Age, Deviation, Period, RotationProof, SecretReport
    from rotator.secret_state import Managed

FORMAT: Final = "rotator report 1"
# Until then the entries of secrets stay in memory.
_IN_MEMORY: Final = 8 * 2**20
# So many secrets are named in a sentence.
_NAMED: Final = 10
# What no journal shows, in any period.
_NEVER_COVERED: Final = (
    "Values that were read in the backend, or shown by `rotator get NAME --reveal`.",
    "Whether owners and bases are true: they are quoted from the configuration of today.",
    "Signatures and the writers' key: `rotator audit verify` checks them.",
)


@dataclass(slots=True)
class Report:
    """A report. `head`: everything but the secrets, as JSON has it."""

    head: dict[str, Any]
    _spool: IO[str] = field(repr=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._spool.close()

    @property
    def is_late(self) -> bool:
        """Whether a secret was late in the period."""
        return self.head["totals"]["late"] > 0

    @property
    def is_intact(self) -> bool:
        """Whether the journal is intact, as far as that shows without keys."""
        return not self.head["journal"]["damage"]

    def names(self) -> list[str]:
        """Return the names of the secrets in the report."""
        return [entry["secret"] for entry in self.secrets()]

    def secrets(self) -> Iterator[dict[str, Any]]:
        """Yield the entry of each secret."""
        for line in self.lines():
            yield json.loads(line)

    def lines(self) -> Iterator[str]:
        """Yield the entry of each secret as a line of JSON."""
        _ = self._spool.seek(0)
        yield from self._spool


def build(
    journal: SqlJournal,
    period: Period,
    *,
    only: Collection[str] | None = None,
    frameworks: Sequence[Framework] = (),
    sample: int = 0,
    seed: str = "0",
    managed: Mapping[str, Managed] | None = None,
    targets: Collection[str] = (),
) -> Report:
    """Read the journal and return the report of a period. The caller closes it.

    `only`: these secrets. `sample`: so many rotations are drawn, by the SHA-256 of the seed and the id of
    each, so that an outsider can draw them again. `managed`: the configuration's
    secrets, whose owner and basis are quoted. `targets`: its targets. Reads neither a backend nor a target.
    """
    spool = SpooledTemporaryFile(max_size=_IN_MEMORY, mode="w+", encoding="utf-8", newline="\n")  # noqa: SIM115 # the report closes it
    try:
        reading = JournalReading(journal, period, only)
        totals = _Totals(period, seed, sample)
        used = {*targets}
        never = {name for name in managed or () if only is None or name in only}
        for secret, incidents in reading.secrets():
            never.discard(secret.secret)
            entry = (managed or {}).get(secret.secret)
            secret.owner, secret.basis = (entry.owner, entry.basis) if entry else ("", "")
            totals.add(secret, incidents)
            used.add(secret.target or "")
            _ = spool.write(_dumps(_secret_data(secret)) + "\n")
        used.discard("")
        covered = _covered(reading, used) if only is None else []
        totals.add_coverage(covered)
        head = _head(reading, totals, period, frameworks, covered, filtered=only is not None)
        sentence = "Of the configuration, {} that the journal did not know in the period: {}."
        head["not_covered"] = [*_named(sentence, sorted(never)), *head["not_covered"]]
    except BaseException:
        spool.close()
        raise
    return Report(head, spool)  # pyright: ignore[reportArgumentType]


class ReportOptions(TypedDict, total=False):
    """The options of `build`."""

    only: Collection[str] | None
    frameworks: Sequence[Framework]
    sample: int
    seed: str
    managed: Mapping[str, Managed] | None
    targets: Collection[str]


class _Totals:
    """What adds up over all secrets."""

    def __init__(self, period: Period, seed: str, sample: int) -> None:
        self.period: Period = period
        self.seed: str = seed
        self.wanted: int = sample
        self.figures: Counter[str] = Counter()
        self.exceptions: list[dict[str, Json]] = []
        self.incidents: list[dict[str, Json]] = []
        self.oldest: tuple[timedelta, str, bool] | None = None
        self.unowned: list[str] = []
        self.unfounded: list[str] = []
        self._drawn: list[tuple[int, str, str, dict[str, int]]] = []

    def add(self, secret: SecretReport, incidents: list[Timeline]) -> None:
        """Count one secret."""
        figures, age = self.figures, secret.age_max
        figures["secrets"] += 1
        figures[secret.word] += 1
        figures["without_due_date"] += secret.due is None and secret.managed_until is None
        if age is not None:
            figures["ages_unknown"] += not age.exact
            if self.oldest is None or age.age > self.oldest[0]:
                self.oldest = (age.age, secret.secret, age.exact)
        if secret.managed_until is None:
            self.unowned += [secret.secret] * (not secret.owner)
            self.unfounded += [secret.secret] * (not secret.basis)
        for rotation in secret.rotations:
            self._count(secret.secret, rotation)
        self._deviate(secret.deviations)
        for line in incidents:
            figures["incidents"] += 1
            figures["incidents_open"] += line.proven_at is None or bool(line.unproven)
            self.incidents.append(_incident_data(line))

    def add_coverage(self, covered: Sequence[Coverage]) -> None:
        """Count the logins of targets."""
        figures = self.figures
        for one in covered:
            figures["targets"] += 1
            figures["targets_not_covered"] += not one.is_recent
            if one.is_recent:
                figures["logins_managed"] += one.logins.counts[LoginState.MANAGED.value]
                figures["logins_not_managed"] += one.logins.not_managed
            self._deviate(one.deviations)

    def _deviate(self, deviations: Sequence[Deviation]) -> None:
        figures = self.figures
        for deviation in deviations:
            figures["exceptions_open" if deviation.closed_at is None else "exceptions_closed"] += 1
            figures["late"] += deviation.kind == "overdue"
        self.exceptions += [_deviation_data(one) for one in deviations]

    def sampled(self) -> list[dict[str, Json]]:
        """Return the rotations that were drawn, by secret."""
        drawn = sorted((name, id_, events) for _, name, id_, events in self._drawn)
        return [{"secret": name, "id": id_, "event_numbers": events} for name, id_, events in drawn]

    def _count(self, name: str, rotation: RotationProof) -> None:
        figures = self.figures
        figures["undone"] += rotation.outcome in ("undone", "rolled-back") and self.period.contains(
            rotation.ended_at
        )
        if not self.period.contains(rotation.published_at):
            return
        figures["rotations"] += 1
        if rotation.old_refused is not None:
            figures["old_rejected" if rotation.old_refused else "old_accepted"] += 1
        elif rotation.outcome == "done" and rotation.old_login is not None:
            figures["old_not_tried"] += 1
        if self.wanted:
            key = hashlib.sha256(f"{self.seed}\n{name}\n{rotation.id}".encode("utf-8", "replace"))
            # The smallest ones: a heap of their negatives has the largest of them on top.
            drawn = (-int.from_bytes(key.digest()), name, rotation.id, rotation.events)
            if len(self._drawn) < self.wanted:
                heapq.heappush(self._drawn, drawn)
            else:
                _ = heapq.heappushpop(self._drawn, drawn)


_FIGURES: Final = (
    *("secrets", "operated", "exception", NOT_COVERED, "rotations", "late", "undone"),
    *("old_rejected", "old_accepted", "old_not_tried", "without_due_date", "ages_unknown"),
    *("exceptions_open", "exceptions_closed", "incidents", "incidents_open"),
    *("targets", "targets_not_covered", "logins_managed", "logins_not_managed"),
)


def _head(
    reading: JournalReading,
    totals: _Totals,
    period: Period,
    frameworks: Sequence[Framework],
    covered: Sequence[Coverage],
    *,
    filtered: bool,
) -> dict[str, Any]:
    audit = reading.audit
    figures: dict[str, int] = {name: totals.figures[name] for name in _FIGURES}
    figures |= {
        "events": sum(one.events for one in reading.access.values()),
        "damaged_places": len(audit.damage),
        "without_owner": len(totals.unowned),
        "without_basis": len(totals.unfounded),
    }
    oldest = totals.oldest
    return {
        "format": FORMAT,
        "journal": {
            "intact": audit.ok,
            "damage": [{"where": one.where, "what": one.what} for one in audit.damage],
            "events_checked": audit.events,
            "secrets_checked": audit.secrets,
        },
        "period": {
            "since": stamp(period.since),
            "until": stamp(period.until),
            "known_from": reading.known_from,
        },
        "totals": {name.replace(" ", "_"): count for name, count in figures.items()},
        "oldest": None
        if oldest is None
        else {"secret": oldest[1], "seconds": _seconds(oldest[0]), "exact": oldest[2]},
        "late_after_seconds": _seconds(LATE_AFTER),
        "not_covered": [
            *_named("Who answers for {} without `owner`: {}.", totals.unowned),
            *_named("Why the period of {} without `basis` suffices: {}.", totals.unfounded),
            *_unseen(covered),
            *_not_covered(reading, figures, period, filtered=filtered),
        ],
        "controls": controls(frameworks, figures),
        "sample": {"wanted": totals.wanted, "seed": totals.seed, "rotations": totals.sampled()},
        "exceptions": totals.exceptions,
        "incidents": totals.incidents,
        "coverage": [_coverage_data(one) for one in covered],
        "access": [
            {
                "actor": one.actor,
                "events": one.events,
                "first": one.first,
                "last": one.last,
                "requests": dict(sorted(one.requests.items())),
            }
            for _, one in sorted(reading.access.items())
        ],
        "acknowledged": [
            {"at": stamp(one.at), "event": one.event, "actor": one.actor, "reason": one.reason}
            for one in reading.acknowledged
        ],
    }


def _named(sentence: str, names: Sequence[str]) -> list[str]:
    """Return a sentence about some secrets, with their number and the first of them; none about none."""
    if not names:
        return []
    shown = ", ".join(sorted(names)[:_NAMED])
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    count = "1 secret" if len(names) == 1 else f"{len(names)} secrets"
    return [sentence.format(count, f"{shown}{more}")]


def _not_covered(
    reading: JournalReading, figures: dict[str, int], period: Period, *, filtered: bool
) -> list[str]:
    found: list[str] = []
    known = reading.known_from
    if known is None or known > stamp(period.since):
        begins = (
            "has no events" if known is None else f"begins at {known[:16].replace('T', ' ')} UTC"
        )
        found.append(f"The time before the first event: the journal {begins}.")
    if figures["ages_unknown"]:
        found.append(
            f"The age of {figures['ages_unknown']} secrets: the journal does not know when their"
            " credential was made, only that it is at least as old as shown."
        )
    if figures["without_due_date"]:
        found.append(f"Lateness of {figures['without_due_date']} secrets that have no due date.")
    if filtered:
        found.append("Secrets that the filter left out.")
        found.append("Logins on targets: a report of some secrets has no list of them.")
    return [*found, *_NEVER_COVERED]


def _covered(reading: JournalReading, used: Collection[str]) -> list[Coverage]:
    """Return what is known of each target that is, or was in the period, in use."""
    seen = reading.coverage
    names = {*used, *(name for name, one in seen.items() if one.is_recent)}
    return [seen.get(name) or Coverage(target=name) for name in sorted(names)]


def _unseen(covered: Sequence[Coverage]) -> list[str]:
    """Return what is to be said of targets at which nobody looked in the period."""
    found: list[str] = []
    for one in covered:
        if one.is_recent:
            continue
        last = (
            "never listed"
            if one.listed_at is None
            else f"last listed at {stamp(one.listed_at)[:16].replace('T', ' ')} UTC, before the period"
        )
        found.append(f"Logins on target {one.target}: {last}.")
    if len(found) > _NAMED:
        found = [*found[:_NAMED], f"Logins on {len(found) - _NAMED} more targets: not listed."]
    if found:
        found.append(
            "A daemon lists them once a day; `rotator discover TARGET` lists them at once."
        )
    return found


def _secret_data(secret: SecretReport) -> dict[str, Json]:
    return {
        "secret": secret.secret,
        "word": secret.word,
        "owner": secret.owner or None,
        "basis": secret.basis or None,
        "managed_from": stamp(secret.managed_from),
        "managed_until": _stamped(secret.managed_until),
        "ended": secret.ended,
        "target": secret.target,
        "backend": secret.backend,
        "plugin": secret.plugin,
        "strategy": secret.strategy,
        "login": secret.login,
        "version": secret.version,
        "due": _stamped(secret.due),
        "age_start": _age_data(secret.age_start),
        "age_end": _age_data(secret.age_end),
        "age_max": _age_data(secret.age_max),
        "seq": secret.seq,
        "head": secret.head,
        "rotations": [_rotation_data(one) for one in secret.rotations],
        "exceptions": len(secret.deviations),
    }


def _rotation_data(one: RotationProof) -> dict[str, Json]:
    return {
        "id": one.id,
        "reason": one.reason,
        "actor": one.actor,
        "plugin": one.plugin,
        "strategy": one.strategy,
        "delegated": one.delegated,
        "started_at": stamp(one.started_at),
        "published_at": _stamped(one.published_at),
        "ended_at": _stamped(one.ended_at),
        "outcome": one.outcome,
        "old_login": one.old_login,
        "old_version": one.old_version,
        "new_login": one.new_login,
        "new_version": one.new_version,
        "old_refused": one.old_refused,
        "due": _stamped(one.due),
        "late_seconds": None if one.late is None else _seconds(one.late),
        "late": one.is_late,
        "event_numbers": dict(one.events),
        "head": one.head,
    }


def _deviation_data(one: Deviation) -> dict[str, Json]:
    return {
        "secret": one.secret,
        "kind": one.kind,
        "what": one.what,
        "opened_at": stamp(one.opened_at),
        "opened_event": one.opened_event,
        "closed_at": _stamped(one.closed_at),
        "closed_event": one.closed_event,
    }


def _coverage_data(one: Coverage) -> dict[str, Json]:
    return {
        "target": one.target,
        "word": one.word,
        "listed_at": _stamped(one.listed_at),
        "not_managed": one.logins.not_managed,
        "counts": dict(one.logins.counts),
        "names": {state: list(names) for state, names in one.logins.names.items()},
        "exceptions": len(one.deviations),
        "seq": one.seq,
        "head": one.head,
    }


def _incident_data(line: Timeline) -> dict[str, Json]:
    return {
        "secret": line.secret,
        "incident": line.incident,
        "state": line.state,
        "mode": line.mode,
        "version": line.version,
        "login": line.login,
        "reason": line.reason,
        "reported_by": line.reported_by,
        "reported_at": _stamped(line.reported_at),
        "rejected_at": _stamped(line.rejected_at),
        "published_at": _stamped(line.published_at),
        "proven_at": _stamped(line.proven_at),
        "closed_at": _stamped(line.closed_at),
        "unproven": list(line.unproven),
        "event_numbers": [event.seq for event in line.events],
    }


def _age_data(age: Age | None) -> dict[str, Json] | None:
    return None if age is None else {"seconds": _seconds(age.age), "exact": age.exact}


def _stamped(at: datetime | None) -> str | None:
    return None if at is None else stamp(at)


def _seconds(duration: timedelta) -> int:
    return int(duration.total_seconds())


_dumps: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode
