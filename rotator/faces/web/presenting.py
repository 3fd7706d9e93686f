"""What the pages show of secrets, events and days: values without markup."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from rotator.core.consumers import READ_NEXT, assess
from rotator.core.history import text
from rotator.core.model import Kind, Severity, Step
from rotator.core.schedule import open_seconds
from rotator.core.state_machine import Direction, progress
from rotator.faces import histories
from rotator.secret_state import State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rotator.config.model import SecretSettings
    from rotator.core.consumers import ReportedInstance, Verdict
    from rotator.core.history import RotationRecord
    from rotator.core.model import Event, Policy
    from rotator.faces.histories import History
    from rotator.faces.web.console import Console
    from rotator.faces.web.live_fleet import View
    from rotator.secret_state import Fleet, SecretState

PER_PAGE: Final = 50
_TONES: Final = {Severity.ERROR: "bad", Severity.WARNING: "warn", Severity.OK: "good"}
_WAITS: Final = frozenset({State.GRACE, State.DRAINING, State.PREPARING, State.ROTATING})
_QUIET: Final = frozenset({State.UNKNOWN, State.RETIRED})


def tone(one: SecretState) -> str:
    """Return the class of a state: good, wait, warn, bad or quiet."""
    if one.state in _WAITS:
        return "wait"
    if one.state in _QUIET:
        return "quiet"
    return "warn" if one.state is State.DUE else _TONES[one.severity]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A secret in a list. `share`: its age against its period, in percent; None where none is known."""

    state: SecretState
    tone: str
    share: int | None
    due: datetime | None
    behind: tuple[str, ...]


def row(one: SecretState, now: datetime) -> Row:
    """Return a secret as a list shows it."""
    one = replace(one, now=now)
    due = one.due_since or one.next_due
    share = None
    if one.rotated_at is not None and due is not None and due > one.rotated_at:
        share = round(100 * (now - one.rotated_at) / (due - one.rotated_at))
    on = READ_NEXT if one.state is State.PREPARING else "on the current version"
    behind = tuple(standing.line(on) for standing in one.consumers_behind)
    return Row(state=one, tone=tone(one), share=share, due=due, behind=behind)


# -- which secrets ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which secrets a list shows; its texts are those of the URL."""

    text: str = ""
    states: tuple[str, ...] = ()
    target: str = ""
    tag: str = ""
    due: str = ""
    behind: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether every secret is shown."""
        return self == Filter()

    @property
    def asked_for(self) -> int:
        """How many of its parts leave secrets out; several states, or `behind`, count twice: no index has them."""
        several = len(self.states) > 1
        parts = (self.text, self.states, self.target, self.tag, self.due, self.behind)
        return sum(map(bool, parts)) + several + self.behind

    def query(self) -> list[tuple[str, str]]:
        """Return it as the URL has it."""
        found = [("q", self.text), *(("state", one) for one in self.states)]
        found += [("target", self.target), ("tag", self.tag), ("due", self.due)]
        found += [("behind", "1" if self.behind else "")]
        return [(key, value) for key, value in found if value]

    def takes(self, one: SecretState) -> bool:
        """Return whether a secret is shown."""
        due = one.due_since or one.next_due
        return (
            (not self.text or self.text.lower() in one.name.lower())
            and (not self.states or one.state.value in self.states)
            and (not self.target or one.target == self.target)
            and (not self.tag or self.tag in one.tags)
            and (
                not self.due
                or (due is not None and due.date().isoformat() == self.due and not one.parked)
            )
            and (not self.behind or bool(one.consumers_behind))
        )


def chosen(view: View, only: frozenset[str] | None, wanted: Filter) -> Sequence[str]:
    """Return the names of the secrets that a list shows."""
    if wanted.is_empty and only is None:
        return view.names
    states, index = view.states, view.index
    # The rarest of what is asked for decides how many are looked at.
    parts: list[Sequence[str]] = [view.names]
    if len(wanted.states) == 1:
        parts.append(index.by_state.get(wanted.states[0], ()))
    if wanted.target:
        parts.append(index.by_target.get(wanted.target, ()))
    if wanted.tag:
        parts.append(index.by_tag.get(wanted.tag, ()))
    if wanted.due:
        parts.append(index.by_due_date.get(date.fromisoformat(wanted.due), ()))
    if only is not None and len(only) < len(view.names):
        parts.append(sorted(only & states.keys()))
    names = min(parts, key=len)
    if wanted.text:
        text = wanted.text.lower()
        names = [name for name in names if text in name.lower()]
    if wanted.asked_for <= 1 and only is None:
        return names
    return [name for name in names if (only is None or name in only) and wanted.takes(states[name])]


# -- one secret -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineStep:
    """A step of a rotation, as its newest event shows it."""

    name: str
    at: datetime
    tone: str
    result: str
    seconds: float | None
    remark: str
    seq: int
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationView:
    """A rotation with its steps."""

    record: RotationRecord
    outcome: str
    tone: str
    steps: tuple[TimelineStep, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeProof:
    """The event that shows that an old login was rejected."""

    login: str
    at: datetime
    refused: bool
    seq: int
    hash: str


def rotations(history: History) -> list[RotationView]:
    """Return the rotations of a history, newest first."""
    return [_rotation(one, history.events[one.id]) for one in history.rotations]


def _rotation(one: RotationRecord, events: Sequence[Event]) -> RotationView:
    outcome = one.outcome.value if one.outcome else "published" if one.published_at else "open"
    tones = {"done": "good", "published": "wait", "open": "wait"}
    shown = [event for event in events if event.kind is not Kind.STARTED]
    if events and events[-1].kind is Kind.STARTED:
        shown.append(events[-1])
    return RotationView(
        record=one,
        outcome=outcome,
        tone=tones.get(outcome, "warn"),
        steps=tuple(_step(event) for event in shown),
    )


def _step(event: Event) -> TimelineStep:
    seconds = event.data.get("seconds")
    tones = {Kind.FINISHED: "good", Kind.FAILED: "bad", Kind.WAITING: "wait", Kind.STARTED: "wait"}
    return TimelineStep(
        name=event.step.value if event.step is not None else event.kind.value,
        at=event.at,
        tone=tones.get(event.kind, "quiet"),
        result=event.kind.value if event.step is not None else "",
        seconds=seconds if isinstance(seconds, int | float) else None,
        remark=histories.remark(event),
        seq=event.seq,
        hash=event.hash,
    )


def revoke_proof(history: History) -> RevokeProof | None:
    """Return the newest proof that an old login is rejected; None where there is none."""
    for one in history.rotations:
        for event in reversed(history.events[one.id]):
            if (event.kind, event.step) == (Kind.FINISHED, Step.REVOKE) and "refused" in event.data:
                return RevokeProof(
                    login=text(event.data, "login") or one.old_login or "",
                    at=event.at,
                    refused=event.data["refused"] is True,
                    seq=event.seq,
                    hash=event.hash,
                )
    return None


def can_roll_back(state: SecretState, history: History) -> bool:
    """Return whether a rollback is still possible: the newer login is served, and the old one is valid."""
    events = history.events.get(state.open_rotation or "")
    if not events or state.state not in (State.GRACE, State.DRAINING):
        return False
    known = progress(events)
    return known.published and known.direction is not Direction.ROLLBACK


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionMatrix:
    """How many instances of each consumer use which version. `versions`: the current one first."""

    versions: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[int, ...]], ...]
    verdict: Verdict | None


def version_matrix(
    secret: SecretSettings | None, version: str | None, instances: Sequence[ReportedInstance]
) -> VersionMatrix:
    """Return the matrix of a secret, by the reports alone."""
    consumers = secret.consumers if secret is not None else ()
    verdict = assess(consumers, instances, (), version=version) if version is not None else None
    found = dict.fromkeys([version] if version is not None else list[str]())
    found |= dict.fromkeys(one.report.version for one in instances)
    versions = tuple(found)
    lines = {one.consumer: one for one in (verdict.standings if verdict is not None else ())}
    rows = tuple(
        (
            name,
            "complete" if standing.is_complete else "behind",
            tuple(
                sum(one.report.consumer == name and one.report.version == each for one in instances)
                for each in versions
            ),
        )
        for name, standing in lines.items()
    )
    return VersionMatrix(versions=versions, rows=rows, verdict=verdict)


# -- the calendar -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """One day: how many secrets are due, and for how many hours rotations may begin (24: all day)."""

    date: datetime
    due: int
    hours: float
    is_today: bool


def days(console: Console, only: frozenset[str] | None, now: datetime, count: int) -> list[Day]:
    """Return the next days in UTC, today first. What is overdue counts for today."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    counts = [0] * count
    for day, due in console.view.index.by_due_date.items():
        number = max(0, (day - today.date()).days)
        if number < count:
            counts[number] += len(due) if only is None else sum(name in only for name in due)
    policies = console.window_policies
    return [
        Day(
            date=today + timedelta(days=number),
            due=due,
            hours=_hours(policies, today + timedelta(days=number)),
            is_today=number == 0,
        )
        for number, due in enumerate(counts)
    ]


def window_policies(secrets: Mapping[str, SecretSettings]) -> list[Policy]:
    """Return a policy for each set of windows that is in use."""
    found: dict[Any, Policy] = {}
    for one in secrets.values():
        _ = found.setdefault(id(one.policy.windows), one.policy)
    return list({repr(one.windows): one for one in found.values()}.values())[:20]


def _hours(policies: Sequence[Policy], day: datetime) -> float:
    """Return the most hours of a day in which some policy allows work to begin."""
    whole = timedelta(days=1)
    return max((open_seconds(one, day, whole) / 3600 for one in policies), default=24.0)


def without_secrets(fleet: Fleet, visible: frozenset[str] | None) -> Fleet:
    """Return a fleet without the states of its secrets, and with what the actor may see of the rest."""
    if visible is None:
        return replace(fleet, secrets=())
    seen = tuple(one for one in fleet.incidents if not visible.isdisjoint(one.secrets))
    seen = tuple(replace(one, secrets=tuple(visible.intersection(one.secrets))) for one in seen)
    return replace(fleet, secrets=(), orphans=(), incidents=seen)
