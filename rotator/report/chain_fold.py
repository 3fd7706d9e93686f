"""One secret's chain as an auditor asks for it: ages, rotations with their proofs, exceptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rotator.core.history import SecretRecord, fold_secret, text
from rotator.core.model import Kind, Step
from rotator.report.ages import ServedCredentials
from rotator.report.model import LATE_AFTER, Deviation, RotationProof, SecretReport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from rotator.core.model import Event
    from rotator.report.model import Period

# After one of these a secret is managed again.
_BEGIN: Final = (Kind.REQUESTED, Kind.ADOPTED)


@dataclass(frozen=True, slots=True)
class _Trouble:
    """A kind of exception that lasts while a record has a fact."""

    kind: str
    fact: Callable[[SecretRecord], str | None]


_TROUBLES: Final = (
    _Trouble("parked", lambda record: record.parked),
    _Trouble("refused", lambda record: record.refused),
    _Trouble(
        "drift",
        lambda record: record.drift and f"the backend serves version {record.drift}, not recorded",
    ),
    _Trouble("stale-copies", lambda record: ", ".join(record.stale) or None),
)


class ChainFold:
    """Folds the events of one secret, in order, up to the end of a period."""

    def __init__(self, secret: str, period: Period) -> None:
        self._period: Period = period
        self._record: SecretRecord = SecretRecord(name=secret)
        self._served: ServedCredentials = ServedCredentials()
        self._rotations: dict[str, RotationProof] = {}
        self._open: dict[str, Deviation] = {}
        self._deviations: list[Deviation] = []
        self._report: SecretReport | None = None
        # Whether it was managed at some moment of the period before the last time.
        self._managed_before: bool = False
        self._latest: datetime | None = None
        # The event that set the due date.
        self._due_event: int = 0

    def add(self, event: Event) -> None:
        """Take the next event."""
        before, after = self._record, fold_secret(self._record, event)
        self._record = after
        report = self._managed(event)
        report.seq, report.head = event.seq, event.hash
        self._served.add(event, after)
        self._describe(report, event)
        self._rotation(event, before)
        self._overdue(event, before.due, after.due)
        if before.due != after.due:
            self._due_event = event.seq
        for trouble in _TROUBLES:
            self._follow(trouble.kind, trouble.fact(after), event)
        if self._latest is not None and event.at < self._latest:
            what = f"its time is {self._latest - event.at} before that of an earlier event"
            self._note("clock", what, event)
        self._latest = max(self._latest or event.at, event.at)

    def report(self) -> SecretReport | None:
        """Return what it adds up to; None when it was managed at no moment of the period."""
        report, period = self._report, self._period
        if report is None:
            return None
        lasting = period.overlaps(report.managed_from, report.managed_until)
        if not lasting and not self._managed_before:
            return None
        record = self._record
        report.login = record.login or report.login
        report.version = record.version or report.version
        report.due = record.due
        report.age_start = self._served.age(period.since)
        report.age_end = self._served.age(period.until)
        report.age_max = self._served.oldest(period)
        report.rotations = [one for one in self._rotations.values() if self._reaches(one)]
        open_ones = [*self._deviations, *self._open.values(), *self._still_overdue()]
        kept = [one for one in open_ones if self._in_period(one)]
        report.deviations = sorted(kept, key=lambda one: (one.opened_event, one.kind))
        return report

    def _managed(self, event: Event) -> SecretReport:
        report = self._report
        if report is None:
            self._report = SecretReport(secret=event.secret, managed_from=event.at)
        elif report.managed_until is not None and event.kind in _BEGIN:
            earlier = self._period.overlaps(report.managed_from, report.managed_until)
            self._managed_before = self._managed_before or earlier
            report.managed_from, report.managed_until, report.ended = event.at, None, None
        report = self._report
        assert report is not None  # noqa: S101 # made above
        if event.kind is Kind.RETIRED or (event.kind is Kind.RENAMED and "to" in event.data):
            report.managed_until = event.at
            to = text(event.data, "to")
            report.ended = "retired" if to is None else f"renamed to {to}"
        return report

    def _describe(self, report: SecretReport, event: Event) -> None:
        if event.kind not in _BEGIN:
            report.login = self._record.login or report.login
            report.version = self._record.version or report.version
            return
        data = event.data
        report.target = text(data, "target") or report.target
        report.backend = text(data, "backend") or report.backend
        report.plugin = text(data, "plugin") or report.plugin
        report.strategy = text(data, "strategy") or report.strategy

    def _rotation(self, event: Event, before: SecretRecord) -> None:
        data = event.data
        if event.kind is Kind.REQUESTED and event.rotation_id is not None:
            self._rotations[event.rotation_id] = RotationProof(
                id=event.rotation_id,
                started_at=event.at,
                reason=text(data, "reason") or "",
                actor=event.actor,
                plugin=text(data, "plugin") or "",
                strategy=text(data, "strategy") or "",
                old_login=text(data, "old_login"),
                old_version=text(data, "old_version"),
                delegated=data.get("delegated") is True,
            )
        proof = self._rotations.get(event.rotation_id or "")
        if event.kind is Kind.FOLLOWED:
            proof = self._delegated(event, before)
        if proof is None:
            return
        moment_ = _MOMENTS.get((event.kind, event.step))
        if moment_ is None:
            return
        proof.events[moment_] = event.seq
        proof.head = event.hash
        match moment_:
            case "published" | "proven":
                proof.new_login, proof.new_version = text(data, "login"), text(data, "version")
                proof.published_at = event.at
                self._lateness(proof, before, event.at)
            case "refused":
                self._refusal(proof, event)
            case "ended":
                proof.ended_at, proof.outcome = event.at, text(data, "outcome")
            case _:
                pass

    def _delegated(self, event: Event, before: SecretRecord) -> RotationProof:
        data = event.data
        id_ = text(data, "request") or f"event {event.seq}"
        proof = RotationProof(
            id=id_,
            started_at=event.at,
            reason="replaced by another system",
            actor=event.actor,
            delegated=True,
            old_login=text(data, "old_login") or before.login,
            old_version=text(data, "old_version") or before.version,
            new_login=text(data, "login"),
            new_version=text(data, "version"),
            published_at=event.at,
            ended_at=event.at,
            outcome="done",
            events={"followed": event.seq},
            head=event.hash,
        )
        self._rotations[id_] = proof
        self._lateness(proof, before, event.at)
        self._refusal(proof, event, key="old_refused")
        return proof

    def _lateness(self, proof: RotationProof, before: SecretRecord, at: datetime) -> None:
        proof.due = before.due
        if before.due is not None:
            proof.late = max(at - before.due, at - at)

    def _refusal(self, proof: RotationProof, event: Event, key: str = "refused") -> None:
        refused = event.data.get(key)
        proof.old_refused = refused if isinstance(refused, bool) else None
        if refused is False:
            what = f"the target still accepts login {proof.old_login!r} with the old credential"
            self._note("old-accepted", what, event)

    def _overdue(self, event: Event, before: datetime | None, after: datetime | None) -> None:
        if before is None or before == after or event.at <= before + LATE_AFTER:
            return
        self._deviations.append(
            _overdue(event.secret, before, self._due_event, closed=(event.at, event.seq))
        )

    def _still_overdue(self) -> Sequence[Deviation]:
        record, until = self._record, self._period.until
        if record.due is None or until <= record.due + LATE_AFTER:
            return ()
        return (_overdue(record.name, record.due, self._due_event),)

    def _follow(self, kind: str, what: str | None, event: Event) -> None:
        """Begin, continue or end an exception that lasts."""
        opened = self._open.get(kind)
        if what is not None and opened is None:
            self._open[kind] = Deviation(
                secret=event.secret,
                kind=kind,
                what=what,
                opened_at=event.at,
                opened_event=event.seq,
            )
        elif what is None and opened is not None:
            opened.closed_at, opened.closed_event = event.at, event.seq
            self._deviations.append(self._open.pop(kind))

    def _note(self, kind: str, what: str, event: Event) -> None:
        """Note an exception of one moment."""
        self._deviations.append(
            Deviation(
                secret=event.secret,
                kind=kind,
                what=what,
                opened_at=event.at,
                opened_event=event.seq,
                closed_at=event.at,
                closed_event=event.seq,
            )
        )

    def _reaches(self, rotation: RotationProof) -> bool:
        """Return whether a rotation was open, or ended, in the period."""
        period, ended = self._period, rotation.ended_at
        return rotation.started_at <= period.until and (ended is None or ended >= period.since)

    def _in_period(self, one: Deviation) -> bool:
        if one.closed_at is not None and one.closed_at <= one.opened_at:
            return self._period.contains(one.opened_at)
        return self._period.overlaps(one.opened_at, one.closed_at)


_MOMENTS: Final[Mapping[tuple[Kind, Step | None], str]] = {
    (Kind.REQUESTED, None): "requested",
    (Kind.FINISHED, Step.PUBLISH): "published",
    (Kind.FINISHED, Step.PROVE): "proven",
    (Kind.FINISHED, Step.RESTORE): "restored",
    (Kind.FINISHED, Step.REVOKE): "refused",
    (Kind.ENDED, None): "ended",
}


def _overdue(
    secret: str, due: datetime, seq: int, *, closed: tuple[datetime, int] | None = None
) -> Deviation:
    return Deviation(
        secret=secret,
        kind="overdue",
        what=f"it was due at {due:%Y-%m-%d %H:%M} UTC",
        opened_at=due + LATE_AFTER,
        opened_event=seq,
        closed_at=closed[0] if closed else None,
        closed_event=closed[1] if closed else None,
    )
