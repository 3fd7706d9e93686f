"""The output of `rotator status`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.live import Live
from rich.text import Text

from rotator.core.consumers import READ_NEXT
from rotator.core.errors import UsageError
from rotator.core.model import Severity
from rotator.faces.cli import exit_codes
from rotator.faces.cli.render import json_output
from rotator.faces.cli.render.console import BAD, at, indented, plural, relative, span, table
from rotator.plugins import near
from rotator.secret_state import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from rich.console import RenderableType

    from rotator.bootstrap import App
    from rotator.faces.cli.invocation import Invocation
    from rotator.secret_state import Fleet, Process, SecretState

_SIGNS: Final = {
    **dict.fromkeys((State.GRACE, State.DRAINING, State.PREPARING, State.ROTATING), "wait"),
    **dict.fromkeys((State.DUE, State.UNKNOWN, State.INTERRUPTED, State.RETRYING), "warn"),
    State.RETIRED: "warn",
    State.OK: "good",
}
_COLUMNS: Final = ("secret", "state", "age", "next due", "last", "login")
# Maximum number of secrets listed as not adopted; the table has all of them.
_LISTED: Final = 5
_AGAIN: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which secrets to show. By default all, also those that only the journal contains."""

    names: tuple[str, ...] = ()
    everything: bool = False
    tags: tuple[str, ...] = ()
    states: tuple[State, ...] = ()
    targets: tuple[str, ...] = ()


def show(call: Invocation, app: App, chosen: Chosen) -> None:
    """Show the state once, and exit with 3 if there is trouble."""
    fleet = _look(app, chosen)
    call.data |= json_output.of_fleet(fleet)
    call.print(*_shown(call, fleet))
    if fleet.is_trouble:
        call.add_code(exit_codes.STUCK)


def watch(call: Invocation, app: App, chosen: Chosen) -> None:
    """Show the state again and again in the same place."""
    if call.as_json or not call.screen.live:
        raise UsageError("--watch needs a terminal and cannot be combined with --json.")

    with Live(console=call.screen.out, auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            live.update(Group(*_shown(call, _look(app, chosen))), refresh=True)
            app.clock.sleep(_AGAIN)


def _look(app: App, chosen: Chosen) -> Fleet:
    for name in chosen.targets:
        if name not in app.settings.targets:
            hint = near(name, app.settings.targets)
            raise UsageError(f"there is no target {name!r} in {app.settings.file}.", hint=hint)
    some = bool(chosen.names or chosen.tags) and not chosen.everything
    names = app.names(only=chosen.names, tags=chosen.tags, forgotten=True) if some else None
    fleet = app.overview.fleet(names)
    kept = [
        one
        for one in fleet.secrets
        if (not chosen.states or one.state in chosen.states)
        and (not chosen.targets or one.target in chosen.targets)
    ]
    orphans = [
        one
        for one in fleet.orphans
        if not some and not chosen.states and (not chosen.targets or one.target in chosen.targets)
    ]
    return replace(fleet, secrets=tuple(kept), orphans=tuple(orphans))


def _shown(call: Invocation, fleet: Fleet) -> Iterable[RenderableType]:
    yield from _head(call, fleet)
    if fleet.secrets:
        yield table(call.screen, _COLUMNS, [_row(call, one) for one in fleet.secrets])
    else:
        yield "No secrets are configured. Add one: rotator add NAME"
    yield from _details(call, fleet)


def _head(call: Invocation, fleet: Fleet) -> Iterable[RenderableType]:
    for one in fleet.processes[:1] if not any(p.alive for p in fleet.processes) else ():
        sign = call.screen.sign("warn")
        yield Text.assemble(sign, f" No daemon is running: {_seen(one, fleet.now)}.")
    for one in fleet.processes:
        if one.alive:
            yield Text(f"{_seen(one, fleet.now)}.")
    if not fleet.processes:
        yield "No daemon has ever run: no secret is rotated automatically."
    for fault in fleet.faults:
        until = f" until {at(fault.until, seconds=True)}" if fault.until else ""
        what = f": {fault.what}" if fault.what else "."
        yield Text.assemble(
            call.screen.sign("bad"), f" {fault.subject} is unavailable{until}{what}"
        )
        yield from _next(fault.hint)
    counts = ", ".join(f"{count} {state}" for state, count in _ordered(fleet.counts()))
    yield Text.assemble(
        (plural(len(fleet.secrets), "secret"), "bold"), f": {counts or 'none'}", "\n"
    )


def _ordered(counts: dict[str, int]) -> list[tuple[str, int]]:
    """Return the counts, first that of secrets without trouble."""
    return sorted(counts.items(), key=lambda one: one[0] != State.OK)


def _seen(one: Process, now: datetime) -> str:
    return f"{one.face} {one.name}, last seen {relative(one.seen_at, now)}"


def _row(call: Invocation, one: SecretState) -> Sequence[str | Text]:
    style = BAD if one.is_trouble else ""
    state = Text.assemble(call.screen.sign(_SIGNS.get(one.state, "bad")), (f" {one.state}", style))
    return (
        Text(one.name, style="bold"),
        state,
        span(one.age) if one.age is not None else "-",
        _due(one),
        one.last_outcome or ("published" if one.open_rotation and one.rotated_at else "-"),
        one.login or "-",
    )


def _due(one: SecretState) -> str:
    """Return the due date; after a failure, since when it is due and the next try."""
    if one.next_try is not None and one.next_try > one.now:
        since = f"due {relative(one.due_since, one.now)}, " if one.due_since else ""
        return f"{since}next try {relative(one.next_try, one.now)}"
    return relative(one.due_since or one.next_due, one.now)


def _details(call: Invocation, fleet: Fleet) -> Iterable[RenderableType]:
    """Return details of trouble, of secrets that wait, and of sessions that delay a rotation."""
    causes = {one.what for one in fleet.faults if one.what}
    for one in fleet.secrets:
        known = one.state is State.WAITING and any(what in one.cause for what in causes)
        if one.severity is not Severity.OK and not known:
            sign = call.screen.sign("bad" if one.is_trouble else "warn")
            yield Text.assemble("\n", sign, " ", (f"{one.name}: ", "bold"), one.cause)
            yield from _next(one.hint)
        for session in one.sessions:
            yield indented(session.line())
        for consumer in one.consumers_behind:
            line = consumer.line(READ_NEXT) if one.state is State.PREPARING else consumer.line()
            yield indented(f"{one.name}, consumer {line}")
        if one.consumers_behind:
            yield from _next(f"rotator consumers {one.name}")
    for orphan in fleet.orphans:
        sign = call.screen.sign("bad")
        where = f"orphan {orphan.login} on {orphan.target}: "
        yield Text.assemble("\n", sign, " ", (where, "bold"), orphan.what)
        yield from _next(orphan.hint)
    unknown = [one.name for one in fleet.secrets if one.state is State.UNKNOWN]
    if unknown:
        more = len(unknown) - _LISTED
        listed = ", ".join(unknown[:_LISTED]) + (f" and {more} more" if more > 0 else "")
        yield Text.assemble(
            "\n", call.screen.sign("warn"), f" Not rotated or adopted yet: {listed}."
        )
        yield from _next(f"rotator adopt {unknown[0]}, or rotator rotate {unknown[0]}")


def _next(hint: str) -> Iterable[RenderableType]:
    if hint:
        yield indented(Text.assemble(("Next: ", "bold"), hint))
