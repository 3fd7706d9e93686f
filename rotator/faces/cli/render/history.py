"""The output of `rotator history`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.text import Text

from rotator.core.consumers import READ_NEXT, is_of_next
from rotator.core.history import text, texts
from rotator.core.model import Kind
from rotator.engine.delegated_requests import is_delegated, outcomes
from rotator.faces.cli.render import json_output
from rotator.faces.cli.render.console import at, indented, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from rotator.bootstrap import App
    from rotator.core.history import RotationRecord
    from rotator.core.model import Event, Json
    from rotator.faces.cli.invocation import Invocation

# Maximum number of rotations of one secret with `--since` and no `--limit`.
_MANY: Final = 10_000
_MANAGEMENT: Final = (Kind.ADOPTED, Kind.RETIRED, Kind.RENAMED, Kind.ACKNOWLEDGED)
_INCIDENT: Final = (Kind.LEAKED, Kind.PROVEN, Kind.INCIDENT_CLOSED)
# Events outside of rotations that are shown.
_BESIDE: Final = frozenset(
    {
        *(Kind.PARKED, Kind.UNPARKED, Kind.RETIRE_REQUESTED),
        *_MANAGEMENT,
        *_INCIDENT,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The history of one secret; `beside` holds its events outside of rotations."""

    name: str
    rotations: Sequence[RotationRecord]
    events: Mapping[str, list[Event]]
    led: Sequence[Event]
    beside: Sequence[Event]


def read(
    app: App,
    name: str,
    *,
    limit: int | None,
    since: datetime | None,
    until: datetime | None = None,
) -> History:
    """Read the newest rotations of a secret, including those under its former names.

    Those that were open at some time from `since` to before `until`.
    """
    record = app.journal.secret(name)
    names = [name, *reversed(record.former_names if record else ())]
    most = limit or (5 if since is None and until is None else _MANY)
    # The newest ones may all have begun after the period.
    enough = most if until is None else _MANY
    rotations = [
        one
        for known in names
        for one in app.journal.rotations(known, enough)
        if (since is None or (one.ended_at or since) >= since)
        and (until is None or one.started_at < until)
    ]
    rotations = sorted(rotations, key=lambda one: one.started_at, reverse=True)[:most]
    oldest = since or (rotations[-1].started_at if len(rotations) == most else None)
    beside = [
        event
        for known in names
        for event in app.journal.events(known, _MANY)
        if _is_beside(event)
        and (oldest is None or event.at >= oldest)
        and (until is None or event.at < until)
    ]
    led = [
        event
        for event in outcomes(app.journal, name, 2 * enough)
        if (since is None or event.at >= since) and (until is None or event.at < until)
    ]
    return History(
        name=name,
        rotations=rotations,
        events={one.id: app.journal.history(one.id) for one in rotations},
        led=led,
        beside=sorted(beside, key=lambda one: one.at),
    )


def data(history: History) -> json_output.Data:
    """Return a history as data."""
    return {
        "secret": history.name,
        "asked_for": [json_output.of_event(one) for one in history.led],
        "beside": [json_output.of_event(one) for one in history.beside],
        "rotations": [
            {
                **json_output.of_rotation(one),
                "events": [json_output.of_event(event) for event in history.events[one.id]],
            }
            for one in history.rotations
        ],
    }


def show(call: Invocation, history: History) -> None:
    """Print a history, newest last."""
    if not history.rotations and not history.led:
        call.print(f"{history.name} has never been rotated.")
    if history.led:
        _show_led(call, history.led)
    if history.beside:
        call.print(Text(f"{history.name}, outside of rotations", style="bold"))
        rows = [(at(one.at, seconds=True), one.kind.value, remark(one)) for one in history.beside]
        call.print(indented(table(call.screen, ("when", "what", ""), rows)), "")
    for one in reversed(history.rotations):
        _show_rotation(call, one, history.events[one.id])


def remark(event: Event) -> str:
    """Return the details of an event: reason, actor, login, cause."""
    found = event.data
    reason, what = text(found, "reason"), text(found, "what")
    login, version = text(found, "login"), text(found, "version")
    match event.kind:
        case Kind.REVOKE_REQUESTED | Kind.ROLLBACK_REQUESTED | Kind.UNPARKED | Kind.PARKED:
            why = reason or what or "no reason given"
            return f"{why} (by {event.actor})"
        case Kind.REQUESTED | Kind.SCHEDULED | Kind.DELEGATED | Kind.RETIRE_REQUESTED:
            return reason or ""
        case kind if kind in _MANAGEMENT or (kind in _INCIDENT and "incident" in found):
            described = _of_incident if kind in _INCIDENT else _of_management
            return described(event, reason)
        case Kind.CHECKED:
            why = text(found, "why")
            seen = (
                "authenticated" if found.get("accepted") else f"rejected{f': {why}' if why else ''}"
            )
            unknown = "" if found.get("known") else f"; version {version} is unknown"
            return f"login {login} {seen}{unknown}" if login else "the backend holds nothing"
        case Kind.CONSUMERS_READY | Kind.FINISHED if "consumers" in found:
            return _consumers(found)
        case Kind.FAILED | Kind.WAITING | Kind.ENDED:
            return ": ".join(part for part in (text(found, "outcome"), what) if part)
        case _ if found.get("refused") is True:
            return f"login {login} is revoked: a login attempt was rejected"
        case _:
            shown = [login] if login else []
            return ", ".join([*shown, *([f"version {version}"] if version else [])])


def _consumers(data: Mapping[str, Json]) -> str:
    """Return how many instances of each declared consumer used the new version."""
    facts = data.get("consumers")
    listed = facts.get("consumers") if isinstance(facts, dict) else None
    rows = [one for one in (listed if isinstance(listed, list) else ()) if isinstance(one, dict)]
    declared = [one for one in rows if one["expected"]]
    counts = (f"{one['name']} {one['acknowledged']} of {one['expected']}" for one in declared)
    over = READ_NEXT if is_of_next(facts) else "on the new version"
    by_hand = "; the gate was overridden" if data.get("gate_overridden") else ""
    return f"{over}: {', '.join(counts)}{by_hand}"


def _of_incident(event: Event, reason: str | None) -> str:
    """Return what leaked and why it was reported, whether it is rejected, or why the incident ended."""
    found, incident = event.data, f"incident {event.data['incident']}"
    match event.kind:
        case Kind.LEAKED:
            again = ", accepted again" if found.get("returned") else ""
            because = f", reason: {reason}" if reason else ""
            leaked = f"{incident}: version {text(found, 'version')} leaked{again}{because}"
            return f"{leaked} (by {event.actor})"
        case Kind.PROVEN if found.get("ok"):
            entrances = found.get("entrances")
            count = len(entrances) if isinstance(entrances, list) else 0
            where = f"at {count} {'address' if count == 1 else 'addresses'}"
            return f"{incident}: the leaked password was rejected {where}"
        case Kind.PROVEN:
            causes = " ".join(texts(found, "unproven"))
            return f"{incident}: not proven that the leaked password is rejected: {causes}"
        case _:
            return f"{incident}: {reason or 'no reason given'} (by {event.actor})"


def _of_management(event: Event, reason: str | None) -> str:
    found = event.data
    login = text(found, "login")
    because = f", reason: {reason}" if reason else ""
    match event.kind:
        case Kind.ADOPTED:
            details = f"login {login}, version {text(found, 'version')}"
        case Kind.RENAMED if "to" in found:
            details = f"to {text(found, 'to')}"
        case Kind.RENAMED:
            details = f"from {text(found, 'from')}"
        case Kind.RETIRED if found.get("refused"):
            details = f"login {login} is revoked: a login attempt was rejected"
        case Kind.RETIRED:
            details = f"login {login} is unchanged" if login else ""
        case _:
            details = ""
    return f"{details}{because} (by {event.actor})".strip(", ")


def _is_beside(event: Event) -> bool:
    refused = event.kind is Kind.CHECKED and not event.data.get("accepted")
    return (
        not is_delegated(event) and event.rotation_id is None and (event.kind in _BESIDE or refused)
    )


def _show_rotation(call: Invocation, one: RotationRecord, events: list[Event]) -> None:
    outcome = one.outcome.value if one.outcome else "published" if one.published_at else "open"
    head = Text.assemble((one.id, "bold"), f"  {outcome}, {one.strategy}, by {one.actor}")
    call.print(head)
    reason = f", reason: {one.reason}" if one.reason else ""
    logins = f"{one.old_login or 'no login'} to {one.new_login or '?'}"
    call.print(indented(Text(f"from {logins}{reason}")))
    rows = [
        (
            at(event.at, seconds=True),
            event.step.value if event.step else "",
            event.kind.value,
            _took(event),
            remark(event),
        )
        for event in events
        if event.kind is not Kind.STARTED
    ]
    call.print(indented(table(call.screen, ("when", "step", "what", "took", ""), rows)), "")


def _show_led(call: Invocation, events: Sequence[Event]) -> None:
    """Print the requests to another system, and their outcomes."""
    call.print(Text("Rotated by another system, on request or on its own schedule", style="bold"))
    rows = [(at(one.at, seconds=True), _led_word(one), _led_remark(one)) for one in events]
    call.print(indented(table(call.screen, ("when", "what", ""), rows)), "")


def _led_word(event: Event) -> str:
    if event.kind is Kind.FOLLOWED:
        return "noticed" if event.data.get("noticed") else "proven"
    return "asked" if event.kind is Kind.DELEGATED else event.kind.value


def _led_remark(event: Event) -> str:
    found = event.data
    if event.kind is not Kind.FOLLOWED:
        return str(found.get("what") or found.get("reason") or "")
    served = f"login {found.get('login')} authenticated, version {found.get('version')}"
    seen = {True: "the old credential was rejected", False: "the old credential is still valid"}
    refused = found.get("old_refused")
    return ", ".join([served, seen[refused]] if isinstance(refused, bool) else [served])


def _took(event: Event) -> str:
    seconds = event.data.get("seconds")
    return f"{seconds:.3f} s" if isinstance(seconds, int | float) else ""
