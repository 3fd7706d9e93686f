"""status, history, verify: how things are and how they came to be so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rotator.core.led import Followed
from rotator.core.model import Kind
from rotator.engine.requests import outcomes
from rotator.faces.cli import envelope, exits
from rotator.faces.cli.command import command
from rotator.faces.cli.options import Everything, Name, Names, Tags
from rotator.faces.cli.run import Run, each
from rotator.standing import State

if TYPE_CHECKING:
    from rotator.core.history import RotationRecord
    from rotator.core.model import Event
    from rotator.engine import Health, ManagedSecret

_PANEL = "Look"

States = Annotated[
    list[State] | None,
    typer.Option(
        "--state",
        metavar="STATE",
        show_default=False,
        help=f"Only secrets in this state: {', '.join(State)}. May be given several times.",
    ),
]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target", metavar="TARGET", show_default=False, help="Only secrets on this target."
    ),
]
Watch = Annotated[
    bool, typer.Option("--watch", help="Show it again every two seconds, until Ctrl-C.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(
        app,
        "status",
        panel=_PANEL,
        examples="""
        rotator status
        rotator status app-db
        rotator status --state parked --state refused
        rotator status --target main --watch
        rotator status --tag billing --json
        """,
    )(status)
    command(
        app,
        "history",
        panel=_PANEL,
        examples="""
        rotator history app-db
        rotator history app-db --limit 20
        """,
    )(history)
    command(
        app,
        "verify",
        panel=_PANEL,
        examples="""
        rotator verify
        rotator verify app-db
        """,
    )(verify)


def status(
    run: Run,
    names: Names = None,
    *,
    everything: Everything = False,
    tags: Tags = None,
    states: States = None,
    targets: Targets = None,
    watch: Watch = False,
) -> None:
    """Show each secret's state, age and due date, trouble first, with what to do about it.

    Also lists sessions that still use the old login, as of the last count, and which daemons and
    targets are available. It reads the journal only; `rotator verify` tries whether the current
    credential authenticates.

    Exit codes: 0 no trouble, 3 an operator must look (refused, forgotten, orphan, parked, drift), or a
    target or backend is unavailable (waiting).
    """
    from rotator.faces.cli import statuses  # noqa: PLC0415

    with run.open_app() as app:
        chosen = statuses.Chosen(
            names=tuple(names or ()),
            everything=everything,
            tags=tuple(tags or ()),
            states=tuple(states or ()),
            targets=tuple(targets or ()),
        )
        statuses.watch(run, app, chosen) if watch else statuses.show(run, app, chosen)


def history(
    run: Run,
    name: Name,
    *,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="How many rotations, newest first.")
    ] = 5,
) -> None:
    """Show every step of a secret's rotations, with its times."""
    with run.open_app() as app:
        name = app.names(only=[name])[0]
        rotations = app.journal.rotations(name, limit)
        events = {one.id: app.journal.history(one.id) for one in rotations}
        led = outcomes(app.journal, name, 2 * limit)
    run.data |= {
        "secret": name,
        "asked_for": [envelope.of_event(one) for one in led],
        "rotations": [
            {
                **envelope.of_rotation(one),
                "events": [envelope.of_event(event) for event in events[one.id]],
            }
            for one in rotations
        ],
    }
    if not rotations and not led:
        run.say(f"{name} has never been rotated.")
    if led:
        _show_led(run, led)
    for one in reversed(rotations):
        _show_rotation(run, one, events[one.id])


def verify(
    run: Run, names: Names = None, *, everything: Everything = False, tags: Tags = None
) -> None:
    """Try to log in with what the backend serves now, and record the answer."""
    from rotator.faces.cli.screen import line  # noqa: PLC0415

    found: list[envelope.Data] = []
    run.data["secrets"] = found
    with run.open_app() as app:

        def one(secret: ManagedSecret) -> None:
            health = app.engine.check(secret)
            found.append(envelope.of_health(health))
            if not health.accepted:
                error = _refused(secret, health)
                _ = run.fail(error, secret=secret.name, code=exits.FAILED)
                return
            run.ended(exits.DONE)
            stray = (
                ""
                if health.known
                else f" The journal does not know this version: rotator adopt {secret.name}"
            )
            if health.stale:
                stray += f" Not the same: {', '.join(health.stale)}."
            sign = run.screen.sign("good" if health.known and not health.stale else "warn")
            run.say(line(sign, secret.name, f"login {health.login} gets in.{stray}"))

        wanted = app.names(
            only=names or (), tags=tags or (), everything=everything or not (names or tags)
        )
        each(run, app, wanted, one)
        _ = app.checkpoint()


def _refused(secret: ManagedSecret, health: Health) -> exits.NotAccepted:
    if health.login is None:
        return exits.NotAccepted(
            f"the backend holds nothing at {secret.path!r}.",
            hint=f"Make a first credential: rotator rotate {secret.name}",
        )
    return exits.NotAccepted(
        f"the target rejects login {health.login!r} with the password that the backend serves{health.rejection.because}.",
        safety="The application is NOT safe: new connections fail.",
        hint=health.rejection.hint or f"Have another one made: rotator rotate {secret.name}"
        if isinstance(secret.rotation, Followed)
        else f"See what happened: rotator history {secret.name}",
    )


def _show_rotation(run: Run, one: RotationRecord, events: list[Event]) -> None:
    from rich.text import Text  # noqa: PLC0415

    from rotator.faces.cli.screen import at, indented, table  # noqa: PLC0415

    outcome = one.outcome.value if one.outcome else "open"
    head = Text.assemble((one.id, "bold"), f"  {outcome}, {one.strategy}, by {one.actor}")
    run.say(head)
    reason = f", because: {one.reason}" if one.reason else ""
    logins = f"{one.old_login or 'no login'} to {one.new_login or '?'}"
    run.say(indented(Text(f"from {logins}{reason}")))
    rows = [
        (
            at(event.at, seconds=True),
            event.step.value if event.step else "",
            event.kind.value,
            _took(event),
            _remark(event),
        )
        for event in events
        if event.kind.value != "started"
    ]
    run.say(indented(table(run.screen, ("when", "step", "what", "took", ""), rows)), "")


def _show_led(run: Run, events: list[Event]) -> None:
    """Show what another system was asked for, and what came of it."""
    from rich.text import Text  # noqa: PLC0415

    from rotator.faces.cli.screen import at, indented, table  # noqa: PLC0415

    run.say(Text("Rotated by another, which was asked to or did so by itself", style="bold"))
    rows = [(at(one.at, seconds=True), _led_word(one), _led_remark(one)) for one in events]
    run.say(indented(table(run.screen, ("when", "what", ""), rows)), "")


def _led_word(event: Event) -> str:
    if event.kind is Kind.FOLLOWED:
        return "noticed" if event.data.get("noticed") else "proven"
    return "asked" if event.kind is Kind.DELEGATED else event.kind.value


def _led_remark(event: Event) -> str:
    data = event.data
    if event.kind is not Kind.FOLLOWED:
        return str(data.get("what") or data.get("reason") or "")
    served = f"login {data.get('login')} gets in, version {data.get('version')}"
    seen = {True: "the old credential was tried and refused", False: "the old one still gets in"}
    refused = data.get("old_refused")
    return ", ".join([served, seen[refused]] if isinstance(refused, bool) else [served])


def _took(event: Event) -> str:
    seconds = event.data.get("seconds")
    return f"{seconds:.3f} s" if isinstance(seconds, int | float) else ""


def _remark(event: Event) -> str:
    data = event.data
    if data.get("refused") is True:
        return "the old credential was tried and refused"
    shown = [str(data[key]) for key in ("what", "outcome", "login") if data.get(key)]
    version = f"version {data['version']}" if data.get("version") else ""
    return ", ".join(part for part in (*shown[:1], version) if part)
