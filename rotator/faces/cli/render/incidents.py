"""Incidents on the screen and as data: what a leaked password opens, and what was done about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from rotator.core.commands import close_command, end_leases_command
from rotator.core.history import MAPPED, PROVEN
from rotator.core.incident_timeline import CLOSED
from rotator.core.model import Kind
from rotator.engine import Leaked
from rotator.faces import answers
from rotator.faces.cli.render.console import indented, table
from rotator.faces.wording import at, plural, relative, span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime, timedelta

    from rich.console import RenderableType

    from rotator.core.incident_timeline import Timeline
    from rotator.core.model import Event
    from rotator.engine import Contained, Exposure
    from rotator.faces.cli.render.console import Screen

COLUMNS: Final = ("incident", "secret", "state", "mode", "version", "reported", "next attempt")
_WHICH: Final = {
    Leaked.CURRENT: "the current one",
    Leaked.PREVIOUS: "the previous one",
    Leaked.OLDER: "an older one",
}
_STATES: Final = {MAPPED: "recorded", PROVEN: "rejected"}
_MOST_SESSIONS: Final = 20


# -- what it opens -------------------------------------------------------------------------------


def of_exposure(
    screen: Screen, one: Exposure, now: datetime, within: timedelta
) -> list[RenderableType]:
    """Return who uses a leaked password, and what each way to replace it costs."""
    version = f"version {one.version}, {_WHICH[one.leaked]}"
    lines: list[RenderableType] = [
        Text.assemble((one.secret, "bold"), f": {version}; login {one.login} on {one.target}.")
    ]
    lines += [indented(Text(text)) for text in _exposed(one, now)]
    if one.sessions:
        head = ("client", "application", "since")
        rows = [
            (user.client, user.application, relative(user.since, now))
            for user in one.sessions[:_MOST_SESSIONS]
        ]
        lines.append(indented(table(screen, head, rows), 4))
        if len(one.sessions) > _MOST_SESSIONS:
            rest = len(one.sessions) - _MOST_SESSIONS
            lines.append(indented(Text(f"and {rest} more (--json lists all)"), 4))
    lines += [indented(Text(text)) for text in _prices(one, within)]
    return lines


def _exposed(one: Exposure, now: datetime) -> Iterator[str]:
    if one.since is not None:
        until = f", until {at(one.until)}" if one.until is not None else ""
        yield f"Served since {at(one.since)} ({relative(one.since, now)}){until}."
    if one.sessions is not None:
        yield f"{plural(len(one.sessions), 'open session')} of its login."
    if one.consumers:
        yield f"Consumers: {', '.join(one.consumers)}."
    for line in one.behind:
        yield f"Behind: {line}"
    if one.copies:
        yield f"Copies: {', '.join(one.copies)}."
    if one.parked:
        yield f"It is parked: {one.parked} The incident ends that."
    if one.open_rotation:
        yield f"Rotation {one.open_rotation} is open: the incident completes it first."
    for text in one.unknown:
        yield f"Unknown: {text}"


def _prices(one: Exposure, within: timedelta) -> Iterator[str]:
    """Return what each mode costs whom."""
    sessions = (
        "open sessions" if one.sessions is None else plural(len(one.sessions), "open session")
    )
    if one.leaked is Leaked.OLDER:
        yield "It is not served any longer: rotator tries it, and revokes its login if it is still accepted."
        return
    if one.leaked is Leaked.PREVIOUS:
        yield f"Both modes: its grace period ends now, with {sessions}. The current password stays."
        return
    waits = f"for at most {span(within)} after the new one is published"
    yield (
        f"--mode move: the leaked password stays valid until consumers have moved, {waits}."
        if one.overlaps
        else f"--mode move: applications fail from the change until they read the new password; sessions stay {waits}."
    )
    if one.fences:
        yield f"--mode kill: the leaked password is invalid first; {sessions} end, and applications fail until they read the new one."
    else:
        yield "--mode kill: not possible here, because the plugin cannot replace the password before the new one is published."


def of_leases(name: str, count: int) -> Text:
    """Return what an incident means for the open leases of a secret."""
    are, logins = ("is", "Its login is") if count == 1 else ("are", "Their logins are")
    return Text(
        f"{name}: {plural(count, 'lease')} {are} open. {logins} not the leaked one, and the incident does"
        f" not end them.\n  If they leaked too: {end_leases_command(name)}"
    )


def exposure_data(one: Exposure) -> answers.Data:
    """Return an exposure as data."""
    return {
        "secret": one.secret,
        "leaked": one.leaked,
        "version": one.version,
        "login": one.login,
        "target": one.target,
        "backend": one.backend,
        "since": one.since,
        "until": one.until,
        "overlaps": one.overlaps,
        "modes": ["move", "kill"] if one.fences else ["move"],
        "sessions": None
        if one.sessions is None
        else [
            {
                "login": user.login,
                "client": user.client,
                "application": user.application,
                "since": user.since,
            }
            for user in one.sessions
        ],
        "copies": list(one.copies),
        "consumers": list(one.consumers),
        "behind": list(one.behind),
        "open_rotation": one.open_rotation,
        "parked": one.parked,
        "unknown": list(one.unknown),
    }


# -- what was done -------------------------------------------------------------------------------


def of_contained(
    screen: Screen, done: Contained, line: Timeline, now: datetime
) -> list[RenderableType]:
    """Return how far the containment of one secret got."""
    name = (f" {done.secret}: ", "bold")
    proof = done.proof
    if proof is not None and proof.ok:
        places = plural(len(proof.entrances), "address").replace("addresss", "addresses")
        text = f"the leaked password is rejected at {places}."
        lines: list[RenderableType] = [Text.assemble(screen.sign("good"), name, text)]
        lines += [indented(Text(one)) for one in _times(line)]
        if proof.next is not None:
            again = f"It is tried again {relative(proof.next, now)}; a daemon does that."
            lines.append(indented(Text(again)))
        return lines
    if proof is None:
        why = done.waiting or "a step failed and will be retried"
        lines = [Text.assemble(screen.sign("warn"), name, f"not completed: {why}.")]
        if line.rejected_at is not None:
            lines.append(indented(Text("The target rejects the leaked password already.")))
    else:
        text = "not proven: the leaked password may still be accepted."
        lines = [Text.assemble(screen.sign("bad"), name, text)]
        lines += [indented(Text(one)) for one in proof.unproven]
        if proof.next is None and not proof.closed:
            return [*lines, indented(Text(f"End the watch: {close_command(done.secret)}"))]
    resume = f"A daemon continues; or: rotator incident resume {done.secret}"
    return [*lines, indented(Text(resume))]


def _times(line: Timeline) -> Iterator[str]:
    parts = [
        f"{word} after {_seconds(passed)}"
        for word, moment in (
            ("rejected by the target", line.rejected_at),
            ("new one published", line.published_at),
            ("proven", line.proven_at),
        )
        if (passed := line.after(moment)) is not None
    ]
    if parts:
        yield f"{', '.join(parts)}.".capitalize()
    if line.sessions_ended:
        yield f"{plural(line.sessions_ended, 'session')} ended."


def _seconds(passed: timedelta) -> str:
    seconds = passed.total_seconds()
    return f"{seconds:.1f} s" if seconds < 100 else span(passed)  # noqa: PLR2004 # then tenths do not matter


def contained_data(done: Contained, line: Timeline, code: int) -> answers.Data:
    """Return how far the containment of one secret got, as data."""
    proof = done.proof
    return {
        "secret": done.secret,
        "exit_code": code,
        "incident": done.incident,
        "proven": done.is_proven,
        "waiting": done.waiting or None,
        "until": done.until,
        "revoked": list(done.revoked),
        "unproven": list(proof.unproven) if proof is not None else [],
        "addresses": [
            {
                "address": one.address,
                "current": one.current,
                "wrong": one.wrong,
                "leaked": one.leaked,
                "why": one.why or None,
            }
            for one in (proof.entrances if proof is not None else ())
        ],
        "sessions_ended": line.sessions_ended,
        "seconds": answers.durations(line),
    }


# -- timelines -----------------------------------------------------------------------------------


def rows(found: Iterable[Timeline], now: datetime) -> Iterator[tuple[str, ...]]:
    """Return the rows of a table of incidents."""
    for line in found:
        yield (
            line.incident,
            line.secret,
            _STATES.get(line.state, line.state),
            line.mode,
            line.version or "-",
            relative(line.reported_at, now),
            relative(line.next_proof, now) if line.state != CLOSED else "-",
        )


def of_timeline(screen: Screen, line: Timeline, now: datetime) -> list[RenderableType]:
    """Return what happened to one secret in an incident."""
    state = _STATES.get(line.state, line.state)
    head = f"incident {line.incident}, {state}; version {line.version}, login {line.login}."
    lines: list[RenderableType] = [Text.assemble((f"{line.secret}: ", "bold"), head)]
    who = f"Reported {at(line.reported_at)} by {line.reported_by}: {line.reason}"
    approved = f" Approved by {line.approved_by}." if line.approved_by else ""
    lines.append(indented(Text(f"{who}{approved}")))
    lines += [indented(Text(text)) for text in _times(line)]
    if line.addresses:
        lines.append(indented(Text(f"Addresses: {', '.join(line.addresses)}.")))
    if line.resurrections:
        text = f"The leaked password came back {plural(line.resurrections, 'time')}."
        lines.append(indented(Text.assemble(screen.sign("bad"), f" {text}")))
    lines += [
        indented(Text.assemble(screen.sign("warn"), f" Not proven: {text}"))
        for text in line.unproven
    ]
    if line.next_proof is not None:
        lines.append(indented(Text(f"Next attempt {relative(line.next_proof, now)}.")))
    events = [
        (str(event.seq), at(event.at, seconds=True), _what(event), event.actor, event.hash[:12])
        for event in line.events
    ]
    columns = ("event", "at", "what", "by", "hash")
    return [*lines, indented(table(screen, columns, events)), Text("")]


def _what(event: Event) -> str:
    step = f" {event.step.value}" if event.step is not None else ""
    if event.kind is Kind.PROVEN:
        return "rejected everywhere" if event.data.get("ok") else "not proven"
    reason = event.data.get("reason") if event.kind in (Kind.LEAKED, Kind.INCIDENT_CLOSED) else None
    return f"{event.kind.value}{step}{f': {reason}' if reason else ''}"
