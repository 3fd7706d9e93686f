"""How a secret stands, by what the journal says: its state in one word, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rotator.core.machine import Direction, Finish, WaitUntil, decide, progress
from rotator.core.model import Kind
from rotator.core.schedule import is_due
from rotator.engine.requests import pending

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from rotator.bootstrap import App
    from rotator.core.history import SecretRecord
    from rotator.core.model import Event, Json, Policy
    from rotator.faces.cli.envelope import Data


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Who still uses the old login, as it was last counted."""

    login: str
    client: str
    application: str = ""
    since: str | None = None

    def line(self) -> str:
        """Return it for a person."""
        program = f" ({self.application})" if self.application else ""
        since = f", since {self.since}" if self.since else ""
        return f"{self.login} is used from {self.client}{program}{since}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one secret stands."""

    name: str
    state: str
    now: datetime
    says: str = ""
    login: str | None = None
    version: str | None = None
    rotated_at: datetime | None = None
    next_due: datetime | None = None
    until: datetime | None = None
    last_outcome: str | None = None
    failures: int = 0
    parked: str | None = None
    open_rotation: str | None = None
    sessions: tuple[User, ...] = ()
    tags: tuple[str, ...] = ()

    @property
    def age(self) -> timedelta | None:
        """How long ago the current credential was published; None when that is not known."""
        return self.now - self.rotated_at if self.rotated_at else None

    def data(self) -> Data:
        """Return it as data."""
        return {
            "secret": self.name,
            "state": self.state,
            "says": self.says or None,
            "login": self.login,
            "version": self.version,
            "rotated_at": self.rotated_at,
            "age_seconds": int(self.age.total_seconds()) if self.age is not None else None,
            "next_due": self.next_due,
            "until": self.until,
            "last_outcome": self.last_outcome,
            "failures": self.failures,
            "parked": self.parked,
            "open_rotation": self.open_rotation,
            "old_login_sessions": [
                {
                    "login": one.login,
                    "client": one.client,
                    "application": one.application,
                    "since": one.since,
                }
                for one in self.sessions
            ],
            "tags": list(self.tags),
        }


def standing(app: App, name: str, record: SecretRecord | None, now: datetime) -> Standing:
    """Return how a secret stands. Reads the journal, and nothing else."""
    settings = app.settings.secret(name)
    if record is None:
        says = f"not rotated or adopted yet: rotator adopt {name}, or rotator rotate {name}"
        return Standing(name=name, state="unknown", now=now, says=says, tags=settings.tags)
    events = app.journal.history(record.open_rotation) if record.open_rotation else []
    state, says, until = "ok", "", None
    if events:
        state, says, until = _open(name, events, now, settings.policy)
    elif is_due(record, now):
        asked = pending(app.journal, name)
        state = "due" if asked is None else "rotating"
        if asked is not None:
            says = (
                f"{settings.backend} was asked to rotate it; see it through: rotator resume {name}"
            )
    if record.parked is not None:
        state, says = "parked", f"{record.parked} When it is mended: rotator unpark {name}"
    return Standing(
        name=name,
        state=state,
        now=now,
        says=says,
        login=record.login,
        version=record.version,
        rotated_at=record.rotated_at,
        next_due=record.next_due,
        until=until,
        last_outcome=record.last_outcome.value if record.last_outcome else None,
        failures=record.failures,
        parked=record.parked,
        open_rotation=record.open_rotation,
        sessions=_users(events),
        tags=settings.tags,
    )


def _open(
    name: str, events: list[Event], now: datetime, policy: Policy
) -> tuple[str, str, datetime | None]:
    """Return state, words and the time that an open rotation waits for."""
    state = progress(events)
    decision = decide(events, now, policy)
    if isinstance(decision, WaitUntil):
        if state.failed is not None:
            what = state.failed.data.get("what", "a step failed")
            return (
                "retrying",
                f"{what} It is tried again, or now: rotator resume {name}",
                decision.at,
            )
        if state.waited is not None:
            return (
                "draining",
                f"{decision.why}; counted anew by: rotator resume {name}",
                decision.at,
            )
        if state.direction is Direction.ROLLBACK:
            says = (
                f"rolled back; the newer login is valid until it is over, or: rotator revoke {name}"
            )
            return "grace", says, decision.at
        return "grace", f"{decision.why}; end it now: rotator revoke {name}", decision.at
    if isinstance(decision, Finish):
        return "interrupted", f"finish it: rotator resume {name}", None
    if events[-1].kind is Kind.STARTED:
        step = events[-1].step.value if events[-1].step else ""
        says = f"at step {step}, or interrupted there; if nobody is at work: rotator resume {name}"
        return "rotating", says, None
    return "rotating", f"next is step {decision.step.value}: rotator resume {name}", None


def _users(events: list[Event]) -> tuple[User, ...]:
    """Return who used the old login when it was last counted, if it has not gone since."""
    waited = progress(events).waited
    found = waited.data.get("sessions") if waited is not None else None
    return (
        tuple(_user(one) for one in found if isinstance(one, dict))
        if isinstance(found, list)
        else ()
    )


def _user(data: dict[str, Json]) -> User:
    return User(
        login=str(data.get("login", "")),
        client=str(data.get("client", "")),
        application=str(data.get("application") or ""),
        since=str(data["since"]) if data.get("since") else None,
    )
