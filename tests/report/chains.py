"""Chains of events, written by hand: what tests of the report fold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rotator.core.model import Event, Kind, Step
from rotator.report.chain_fold import ChainFold
from rotator.report.model import Period

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rotator.core.model import Json
    from rotator.report.model import SecretReport

START = datetime(2026, 1, 1, tzinfo=UTC)
YEAR = Period(since=START, until=START + timedelta(days=365))


def day(number: float) -> datetime:
    """Return a moment: so many days after the start."""
    return START + timedelta(days=number)


class Chain:
    """The events of one secret, one after the other."""

    def __init__(self, secret: str = "app") -> None:  # noqa: S107 # a name
        self.secret = secret
        self.events: list[Event] = []

    def add(
        self,
        at: float,
        kind: Kind,
        step: Step | None = None,
        rotation: str | None = None,
        /,
        **data: Json,
    ) -> Chain:
        """Append an event, so many days after the start."""
        seq = len(self.events) + 1
        event = Event(
            secret=self.secret,
            seq=seq,
            at=day(at),
            actor="cli:somebody",
            fence=1,
            kind=kind,
            rotation_id=rotation,
            step=step,
            data=data,
            prev_hash=f"hash-{seq - 1}",
            hash=f"hash-{seq}",
        )
        self.events.append(event)
        return self

    def adopt(self, at: float, version: str, made: float | None = None, **data: Json) -> Chain:
        """Append an adoption; `made`: the day on which the credential was made."""
        if made is not None:
            data |= {"rotated_at": day(made).isoformat(), "since": day(made).isoformat()}
        return self.add(at, Kind.ADOPTED, login="app", version=version, **data)

    def request(self, at: float, rotation: str, old: str | None = None) -> Chain:
        """Append the first event of a rotation."""
        data: dict[str, Json] = {"plugin": "p", "strategy": "new-user", "reason": "due"}
        if old is not None:
            data |= {"old_version": old, "old_login": f"app_{old}"}
        return self.add(at, Kind.REQUESTED, None, rotation, **data)

    def publish(self, at: float, rotation: str, version: str, due: float | None = None) -> Chain:
        """Append a publish; `due`: the next due day."""
        data: dict[str, Json] = {"version": version, "login": f"app_{version}"}
        if due is not None:
            data |= {"next_due": day(due).isoformat(), "timing": "t"}
        return self.add(at, Kind.FINISHED, Step.PUBLISH, rotation, **data)

    def revoke(self, at: float, rotation: str, *, refused: bool = True) -> Chain:
        """Append the proof and the end of a rotation."""
        _ = self.add(at, Kind.FINISHED, Step.REVOKE, rotation, refused=refused)
        return self.add(at, Kind.ENDED, None, rotation, outcome="done")

    def restore(self, at: float, rotation: str, version: str) -> Chain:
        """Append a rollback to the credential before."""
        _ = self.add(at, Kind.FINISHED, Step.RESTORE, rotation, version=version, login="app")
        return self.add(at, Kind.ENDED, None, rotation, outcome="rolled-back")

    def rotate(self, at: float, version: str, due: float | None = None) -> Chain:
        """Append one whole rotation."""
        rotation, old = f"{self.secret}-{version}", "0" if self.events else None
        return (
            self.request(at, rotation, old).publish(at, rotation, version, due).revoke(at, rotation)
        )

    def report(self, period: Period = YEAR) -> SecretReport | None:
        """Return what the events add up to."""
        return report_of(self.secret, self.events, period)

    def reported(self, period: Period = YEAR) -> SecretReport:
        """Return what the events add up to, of a secret that was managed."""
        found = self.report(period)
        assert found is not None
        return found


def report_of(secret: str, events: Iterable[Event], period: Period) -> SecretReport | None:
    """Fold events up to the end of a period."""
    fold = ChainFold(secret, period)
    for event in events:
        fold.add(event)
    return fold.report()
