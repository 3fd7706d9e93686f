"""The output of `rotator status`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.live import Live
from rich.text import Text

from rotator.core.consumers import READ_NEXT
from rotator.core.errors import UsageError
from rotator.core.history import PROVEN
from rotator.core.model import Severity
from rotator.faces import answers
from rotator.faces.cli import exit_codes, name_patterns
from rotator.faces.cli.render.console import BAD, QUIET, indented, table
from rotator.faces.wording import at, plural, relative, span
from rotator.plugins import near
from rotator.secret_state import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from rich.console import RenderableType

    from rotator.bootstrap import App
    from rotator.faces.cli.invocation import Invocation
    from rotator.faces.cli.render.console import Screen
    from rotator.secret_state import Fleet, Process, SecretState

_SIGNS: Final = {
    **dict.fromkeys((State.GRACE, State.DRAINING, State.PREPARING, State.ROTATING), "wait"),
    **dict.fromkeys((State.DUE, State.UNKNOWN, State.INTERRUPTED, State.RETRYING), "warn"),
    State.RETIRED: "warn",
    State.OK: "good",
}
_COLUMNS: Final = ("secret", "state", "age", "next due", "last", "login")
# Maximum numbers of secrets listed as not adopted, of processes and of hosts in the first line.
_LISTED: Final = 5
_NAMED: Final = 3
# Maximum number of secrets in words, unless they are selected. Trouble comes first.
_IN_WORDS: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which secrets to show. By default all, also those that only the journal contains."""

    names: tuple[str, ...] = ()
    everything: bool = False
    tags: tuple[str, ...] = ()
    states: tuple[State, ...] = ()
    targets: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()

    @property
    def is_filtered(self) -> bool:
        """Whether some secrets are left out."""
        named = (self.names or self.tags) and not self.everything
        return bool(named or self.states or self.targets or self.backends)

    @property
    def lists_all(self) -> bool:
        """Whether each selected secret is listed, also one that needs no action."""
        return self.everything or self.is_filtered


def show(call: Invocation, app: App, chosen: Chosen) -> None:
    """Show the state once, and exit with 3 if there is trouble."""
    fleet = _read(app, chosen, _selected(app, chosen))
    waiting, leases = _waiting(app), app.journal.leases.counts()
    if call.as_json:
        call.data |= {**answers.of_fleet(fleet), "requests": waiting, "leases": leases}
    else:
        call.print(*_shown(call.screen, fleet, chosen, waiting, leases))
    if fleet.is_trouble or leases["stranded"]:
        call.add_code(exit_codes.STUCK)


def watch(call: Invocation, app: App, chosen: Chosen, seconds: float) -> None:
    """Redraw the state in the same place until Ctrl-C. Each redraw reads the journal once."""
    if call.as_json or not call.screen.live:
        raise UsageError(
            "--watch needs a terminal and cannot be combined with --json.",
            hint="In a script, read the answer of: rotator status --json",
        )
    names = _selected(app, chosen)
    console = call.screen.out
    # The terminal's second screen is overwritten in place, and never blank between two redraws.
    with (
        suppress(KeyboardInterrupt),
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            fleet = _read(app, chosen, names)
            head = Text(f"{at(fleet.now, seconds=True)}, every {seconds:g} s. Ctrl-C ends it.")
            head.stylize(QUIET)
            waiting, leases = _waiting(app), app.journal.leases.counts()
            shown = _shown(call.screen, fleet, chosen, waiting, leases)
            live.update(Group(head, *shown), refresh=True)
            app.clock.sleep(seconds)


# -- which ---------------------------------------------------------------------------------------


def _selected(app: App, chosen: Chosen) -> list[str] | None:
    """Return the names that are asked for; None for all. Raises `UsageError` for what is unknown."""
    _require("target", chosen.targets, app.settings.targets, app)
    _require("backend", chosen.backends, app.settings.backends, app)

    def known() -> Iterator[str]:
        forgotten = app.overview.is_forgotten
        left = (one.name for one in app.journal.secrets() if forgotten(one))
        return filter(app.sees, chain(app.settings.secrets, left))

    if chosen.everything or not (chosen.names or chosen.tags):
        return None if app.sees_all else list(known())
    plain, patterns = name_patterns.split(chosen.names)
    names = app.names(only=plain, tags=chosen.tags, forgotten=True)
    return list(dict.fromkeys([*names, *name_patterns.matches(patterns, known)]))


def _require(what: str, names: Iterable[str], known: Mapping[str, object], app: App) -> None:
    for name in names:
        if name not in known:
            hint = near(name, known)
            raise UsageError(f"there is no {what} {name!r} in {app.settings.file}.", hint=hint)


def _read(app: App, chosen: Chosen, names: Sequence[str] | None) -> Fleet:
    fleet = app.overview.fleet(names)
    secrets = [
        one
        for one in fleet.secrets
        if (not chosen.states or one.state in chosen.states)
        and (not chosen.targets or one.target in chosen.targets)
        and (not chosen.backends or one.backend in chosen.backends)
    ]
    orphans = [
        one
        for one in fleet.orphans
        if names is None
        and not chosen.states
        and not chosen.backends
        and (not chosen.targets or one.target in chosen.targets)
    ]
    incidents = [one for one in fleet.incidents if any(map(app.sees, one.secrets))]
    return replace(
        fleet, secrets=tuple(secrets), orphans=tuple(orphans), incidents=tuple(incidents)
    )


def _waiting(app: App) -> int:
    """Return how many requests wait."""
    return sum(app.sees(one.secret) for one in app.requests.open())


# -- the first line ------------------------------------------------------------------------------


def _shown(
    screen: Screen, fleet: Fleet, chosen: Chosen, waiting: int, leases: Mapping[str, int]
) -> Iterator[RenderableType]:
    yield _head(screen, fleet)
    yield from _outages(screen, fleet)
    if waiting:
        verb = "waits" if waiting == 1 else "wait"
        text = f" {plural(waiting, 'request')} {verb}. List them: rotator requests"
        yield Text.assemble(screen.sign("warn"), text)
    if stranded := leases["stranded"]:
        # Their logins may still be valid.
        text = f" {plural(stranded, 'lease')} stranded. List the causes: rotator lease list"
        yield Text.assemble(screen.sign("bad"), text)
    if not fleet.secrets:
        nothing = "No secrets are configured. Add one: rotator add NAME"
        yield "No secret matches." if chosen.is_filtered else nothing
    elif chosen.lists_all:
        yield ""
        yield table(screen, _COLUMNS, [_row(screen, one) for one in fleet.secrets])
    yield from _details(screen, fleet, most=None if chosen.lists_all else _IN_WORDS)
    if fleet.secrets and not chosen.lists_all:
        yield from _quiet(screen, fleet)


def _head(screen: Screen, fleet: Fleet) -> Text:
    """Return one line: processes, unavailable hosts, secrets by state, open incidents."""
    opened = [one for one in fleet.incidents if one.state != PROVEN]
    sign = "good" if fleet.has_daemon and not fleet.faults else "warn"
    counts = ", ".join(f"{count:,} {state}" for state, count in _ordered(fleet.counts()))
    total = f"{len(fleet.secrets):,} {'secret' if len(fleet.secrets) == 1 else 'secrets'}"
    parts: list[str | Text] = [
        _processes(fleet),
        *([_hosts(fleet)] if fleet.faults else []),
        Text.assemble((total, "bold"), f": {counts or 'none'}"),
    ]
    if opened:
        parts.append(Text(plural(len(opened), "open incident"), style=BAD))
    head = Text.assemble(screen.sign("bad" if fleet.is_trouble or opened else sign), " ")
    for number, part in enumerate(parts):
        head.append("; " if number else "")
        head.append(part)
    return head


def _processes(fleet: Fleet) -> str:
    """Return which daemon and workers are alive, or when the last daemon was seen."""
    daemons = [one for one in fleet.processes if one.face == "daemon"]
    alive = [one for one in fleet.processes if one.alive]
    named = [_seen(one, fleet.now) for one in alive[:_NAMED]]
    if len(alive) > _NAMED:
        named.append(f"{len(alive) - _NAMED} more")
    if not fleet.has_daemon:
        last = f"No daemon is running: {_seen(daemons[0], fleet.now)}" if daemons else ""
        named.insert(0, last or "No daemon was seen")
    return ", ".join(named)


def _hosts(fleet: Fleet) -> str:
    subjects = [one.subject for one in fleet.faults]
    more = len(subjects) - _NAMED
    named = ", ".join(subjects[:_NAMED]) + (f" and {more} more" if more > 0 else "")
    return f"{named} unavailable"


def _ordered(counts: dict[str, int]) -> list[tuple[str, int]]:
    """Return the counts, first that of secrets without trouble."""
    return sorted(counts.items(), key=lambda one: one[0] != State.OK)


def _seen(one: Process, now: datetime) -> str:
    return f"{one.face} {one.name}, last seen {relative(one.seen_at, now)}"


def _outages(screen: Screen, fleet: Fleet) -> Iterator[RenderableType]:
    for fault in fleet.faults:
        until = f" until {at(fault.until, seconds=True)}" if fault.until else ""
        what = f": {fault.what}" if fault.what else "."
        yield Text.assemble(screen.sign("bad"), f" {fault.subject} is unavailable{until}{what}")
        yield from _next(fault.hint)


# -- all secrets ---------------------------------------------------------------------------------


def _row(screen: Screen, one: SecretState) -> Sequence[str | Text]:
    style = BAD if one.is_trouble else ""
    state = Text.assemble(screen.sign(_SIGNS.get(one.state, "bad")), (f" {one.state}", style))
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


# -- trouble in words ----------------------------------------------------------------------------


def _details(screen: Screen, fleet: Fleet, *, most: int | None) -> Iterator[RenderableType]:
    """Return details of trouble, of secrets that wait, and of sessions that delay a rotation."""
    needed = [one for one in fleet.secrets if fleet.needs_words(one)]
    for one in needed[:most]:
        yield from _in_words(screen, one)
    if left := needed[most:] if most is not None else []:
        states = " ".join(f"--state {state}" for state in dict.fromkeys(one.state for one in left))
        yield Text.assemble("\n", screen.sign("warn"), f" {len(left):,} more like these.")
        yield from _next(f"rotator status {states}")
    for orphan in fleet.orphans:
        sign = screen.sign("bad")
        where = f"orphan {orphan.login} on {orphan.target}: "
        yield Text.assemble("\n", sign, " ", (where, "bold"), orphan.what)
        yield from _next(orphan.hint)
    unknown = [one.name for one in fleet.secrets if one.state is State.UNKNOWN]
    if unknown:
        more = len(unknown) - _LISTED
        listed = ", ".join(unknown[:_LISTED]) + (f" and {more:,} more" if more > 0 else "")
        yield Text.assemble("\n", screen.sign("warn"), f" Not rotated or adopted yet: {listed}.")
        yield from _next(f"rotator adopt {unknown[0]}, or rotator rotate {unknown[0]}")


def _in_words(screen: Screen, one: SecretState) -> Iterator[RenderableType]:
    """Return the state of a secret, its cause, its remedy, and who still uses the old credential."""
    sign = screen.sign(_SIGNS.get(one.state, "bad"))
    tried = f" Next try {relative(one.next_try, one.now)}." if _is_ahead(one) else ""
    name = (f"{one.name}, {one.state}: ", "bold")
    yield Text.assemble("\n", sign, " ", name, one.cause, tried)
    yield from _next(one.hint)
    if one.owner and one.severity is not Severity.OK:
        yield indented(Text.assemble(("Owner: ", "bold"), one.owner))
    for session in one.sessions:
        yield indented(session.line())
    for consumer in one.consumers_behind:
        line = consumer.line(READ_NEXT) if one.state is State.PREPARING else consumer.line()
        yield indented(f"{one.name}, consumer {line}")
    if one.consumers_behind:
        yield from _next(f"rotator consumers {one.name}")


def _is_ahead(one: SecretState) -> bool:
    return one.next_try is not None and one.next_try > one.now


def _quiet(screen: Screen, fleet: Fleet) -> Iterator[RenderableType]:
    """Return the number of secrets that need no action, and when the next one is due."""
    due = [one for one in fleet.secrets if one.state is State.DUE]
    if due and not fleet.has_daemon:
        is_due = "secret is" if len(due) == 1 else "secrets are"
        text = f" {len(due):,} {is_due} due, and no daemon is running."
        yield Text.assemble("\n", screen.sign("warn"), text)
        yield from _next("rotator rotate --due, or start one: rotator daemon")
    acted_on = (State.UNKNOWN, State.WAITING, *(() if fleet.has_daemon else (State.DUE,)))
    quiet = [
        one for one in fleet.secrets if one.state not in acted_on and not fleet.needs_words(one)
    ]
    if not quiet:
        return
    count = f"{len(quiet):,} {'secret needs' if len(quiet) == 1 else 'secrets need'} no action."
    dates = [(when, one.name) for one in quiet if (when := one.due_since or one.next_due)]
    first = min(dates, default=None)
    soon = f" Next due: {first[1]}, {relative(first[0], fleet.now)}." if first else ""
    yield Text.assemble("\n", screen.sign("good"), f" {count}{soon} List all: rotator status --all")


def _next(hint: str) -> Iterator[RenderableType]:
    if hint:
        yield indented(Text.assemble(("Next: ", "bold"), hint))
