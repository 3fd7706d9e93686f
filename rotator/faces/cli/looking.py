"""status, history, verify: how things are and how they came to be so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rotator.core.delegated import DelegatedRotation
from rotator.faces.cli import envelope, exits
from rotator.faces.cli.command import command
from rotator.faces.cli.options import Everything, Names, Since, Tags, complete_targets, since_when
from rotator.faces.cli.run import Run, each
from rotator.secret_state import State

if TYPE_CHECKING:
    from rotator.engine import Health, ManagedSecret

_PANEL = "Look"
# Other names of `status`, as of tools that operators know.
_ALIASES = ("ls", "list")

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
        "--target",
        metavar="TARGET",
        show_default=False,
        autocompletion=complete_targets,
        help="Only secrets on this target.",
    ),
]
Watch = Annotated[
    bool, typer.Option("--watch", help="Show it again every two seconds, until Ctrl-C.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for name in ("status", *_ALIASES):
        command(
            app,
            name,
            panel=_PANEL,
            title="status",
            hidden=name in _ALIASES,
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
        rotator history --since 30d
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
    names: Names = None,
    *,
    everything: Everything = False,
    tags: Tags = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="N",
            min=1,
            show_default="5",
            help="How many rotations, newest first.",
        ),
    ] = None,
    since: Since = None,
) -> None:
    """Show every step of rotations, with times, reasons and causes.

    Without a name, of all secrets. A name may be one that the configuration no longer has; the
    history of a renamed secret includes that of its former names.
    """
    from rotator.faces.cli import histories  # noqa: PLC0415

    with run.open_app() as app:
        after = since_when(since, app.clock.now())
        chosen = app.names(
            only=names or (),
            tags=tags or (),
            everything=everything or not (names or tags),
            forgotten=True,
        )
        if not (names or tags):
            chosen += [one.name for one in app.journal.secrets() if one.name not in chosen]
        found = [histories.read(app, name, limit=limit, since=after) for name in chosen]
    run.data |= (
        histories.data(found[0])
        if names and len(found) == 1
        else {"secrets": [histories.data(one) for one in found]}
    )
    for one in found:
        if len(found) == 1 or one.rotations or one.led or one.beside:
            histories.show(run, one)


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
        if isinstance(secret.rotation, DelegatedRotation)
        else f"See what happened: rotator history {secret.name}",
    )
