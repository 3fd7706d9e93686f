"""lease: short-lived logins, each for one holder."""

from __future__ import annotations

import socket
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from rotator.agent.formats import FORMATS
from rotator.core.errors import RotatorError, UsageError
from rotator.engine import LeaseRequest
from rotator.faces.answers import of_lease
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.credentials import (
    check_format,
    formatted,
    lines_of,
    shown_value,
    values_of,
)
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import (
    SHORT,
    Everything,
    Name,
    Reason,
    Template,
    argument,
    complete_formats,
    complete_names,
    duration,
    option,
)
from rotator.faces.cli.render.console import indented, table
from rotator.faces.cli.render.help import PlainGroup
from rotator.faces.wording import at, relative

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from rotator.bootstrap import App
    from rotator.core.leases import LeaseRecord
    from rotator.core.model import Credential

app = typer.Typer()
_lease = typer.Typer(cls=PlainGroup, no_args_is_help=True, rich_markup_mode="rich")
app.add_typer(
    _lease,
    name="lease",
    help="Issue short-lived logins, renew them, and end them.",
    rich_help_panel=Panel.CREDENTIALS,
)

_MOST = 1_000
_Id = Annotated[str, argument("ID", "Id of the lease, as `issue` and `list` show it.")]
_Ttl = Annotated[
    timedelta | None,
    typer.Option(
        "--ttl",
        metavar="DURATION",
        show_default=False,
        parser=duration,
        help="How long from now, such as 30m. Default: `ttl` of the secret's leases.",
    ),
]
_Instance = Annotated[
    str,
    option(
        "--instance",
        "TEXT",
        "Which process of the holder, where instances share a login. Default: the name of this machine.",
    ),
]


@command(_lease, "issue")
def issue(
    ctx: typer.Context,
    name: Name,
    *,
    holder: Annotated[
        str, option("--for", "WHO", "Who uses it: an application, a job or somebody's name.")
    ],
    ttl: _Ttl = None,
    instance: _Instance = "",
    reason: Reason = "",
    format_: Annotated[
        str | None,
        option(
            "--format", "FORMAT", f"Print it as one of: {', '.join(FORMATS)}.", complete_formats
        ),
    ] = None,
    template: Template = "",
) -> None:
    """Make a login for one holder, with the rights of the secret's current login, and print it once.

    It is verified by a login before it is printed. At its end it is dropped, and a login with it must be
    rejected; `rotator daemon` does that in time. rotator does not keep the password, unless instances of
    one consumer share it.

    Examples:
        rotator lease issue app-db --for reporting --ttl 30m
        rotator lease issue app-db --for alice --reason "query for ticket 4711" --format env
    """
    call: Invocation = ctx.obj
    if not holder.strip():
        raise UsageError("--for is empty.", safety="Nothing was changed.")
    check_format(format_, template)
    asked = LeaseRequest(
        holder=holder, instance=instance or socket.gethostname(), purpose=reason, ttl=ttl
    )

    def written(credential: Credential, version: str = "") -> str | None:
        if format_ is None:
            return None
        try:
            return formatted(app.settings, name, credential, version, format_, template)
        except UsageError as error:
            error.safety = "No lease was issued."
            raise

    with call.open_app() as app:
        secret = app.secret(name)
        leases = app.engine.leases
        issued = leases.issue(secret, asked, patience=SHORT, check=written if format_ else None)
        record, credential, now = issued.record, issued.credential, app.clock.now()
        try:
            text = written(credential, record.id)
        except UsageError:
            # Nobody can receive it.
            _ = leases.release(secret, record.id, asked.instance, patience=SHORT)
            raise
        finally:
            _ = app.checkpoint()
    call.revealed = True
    call.data |= of_lease(record) | {"take_next_at": issued.take_next_at.isoformat()}
    head = f"{name}, lease {record.id}, ends {_ends(record, now)}"
    if text is not None:
        call.data["text"] = text
        if not call.as_json:
            call.warn(head)
            call.write(text)
        return
    shown = {
        key: shown_value(value, key, reveal=True) for key, value in values_of(credential).items()
    }
    call.data["fields"] = shown
    if not call.as_json:
        call.write(f"{head}\n{lines_of(shown)}")


@command(_lease, "renew")
def renew(ctx: typer.Context, id_: _Id, *, ttl: _Ttl = None) -> None:
    """Move the end of a lease to --ttl from now, but not beyond `max` from its issue.

    The answer reports whether that was the last renewal possible: then take a new lease in time.

    Examples:
        rotator lease renew 5f0c7a1e-8a39-4d6e-9c3b-2f0d7d1f1a10
    """
    call: Invocation = ctx.obj
    with call.open_app() as app:
        record = _of(app, id_)
        renewed = app.engine.leases.renew(app.lender(record), record.id, ttl=ttl, patience=SHORT)
        _ = app.checkpoint()
        now = app.clock.now()
    take_next_at = renewed.take_next_at.isoformat()
    call.data |= of_lease(renewed.record) | {"final": renewed.final, "take_next_at": take_next_at}
    last = " It cannot be renewed any further." if renewed.final else ""
    call.print(f"lease {id_} ends {_ends(renewed.record, now)}.{last}")


@command(_lease, "revoke")
def revoke(
    ctx: typer.Context,
    ids: Annotated[list[str] | None, argument("ID", "Ids of leases.")] = None,
    *,
    holder: Annotated[str | None, option("--for", "WHO", "All leases of this holder.")] = None,
    login: Annotated[str | None, option("--login", "LOGIN", "The lease with this login.")] = None,
    secret: Annotated[
        str | None, option("--secret", "NAME", "All leases of this secret.", complete_names)
    ] = None,
    everything: Everything = False,
    instance: Annotated[
        str | None,
        option(
            "--instance",
            "TEXT",
            "Only let go for this process; a shared login ends when nobody holds it.",
        ),
    ] = None,
    reason: Reason = "",
) -> None:
    """End leases now: drop their logins, and verify that the target rejects them.

    What fails is tried again by `rotator daemon`, for as long as it takes.

    Examples:
        rotator lease revoke 5f0c7a1e-8a39-4d6e-9c3b-2f0d7d1f1a10
        rotator lease revoke --for alice --reason "left the team"
        rotator lease revoke --login app_r4k8x2m9wq1
    """
    call: Invocation = ctx.obj
    if not (ids or holder or login or secret or everything):
        raise UsageError(
            "no leases selected.",
            hint="Name their ids, or select them with --for, --login, --secret or --all.",
            safety="Nothing was changed.",
        )
    if ids and (holder or login or secret or everything):
        raise UsageError(
            "ids of leases cannot be combined with --for, --login, --secret or --all.",
            safety="Nothing was changed.",
        )
    ended: list[dict[str, Any]] = []
    with call.open_app() as app:
        if secret is not None:
            (secret,) = app.names(only=[secret], forgotten=True)
        if ids:
            chosen = [_of(app, one) for one in ids]
        else:
            chosen = [
                one
                for one in app.journal.leases.open(secret)
                if holder in (None, one.holder) and login in (None, one.login)
            ]
        for one in chosen:
            try:
                leases, lender = app.engine.leases, app.lender(one)
                if instance is not None:
                    record = leases.release(lender, one.id, instance, patience=SHORT)
                else:
                    record = leases.end(lender, one.id, reason=reason, patience=SHORT)
            except RotatorError as error:
                call.fail(error, secret=one.secret)
                continue
            ended.append(of_lease(record))
            is_other = instance is not None and instance not in one.instances
            kept = is_other and record.outcome is None
            call.print(_not_held(record, instance) if kept else _told(record))
        _ = app.checkpoint()
    call.data["leases"] = ended
    if not chosen:
        call.print("No such lease is open.")


@command(_lease, "list")
def list_(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None, argument("NAME", "Only leases of these secrets.", complete_names)
    ] = None,
    *,
    holder: Annotated[str | None, option("--holder", "WHO", "Only leases of this holder.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help=f"Also ended ones: the newest {_MOST}.")
    ] = False,
) -> None:
    """List leases: who holds which login, what for, and until when.

    `stranded` means that its end has failed so far: its login may still be valid.

    Examples:
        rotator lease list
        rotator lease list app-db --holder reporting
    """
    call: Invocation = ctx.obj
    with call.open_app() as app:
        names = app.names(only=names or (), forgotten=True)
        book, now = app.journal.leases, app.clock.now()
        found: Sequence[LeaseRecord] = book.recent(_MOST) if everything else book.open()
        found = [
            one
            for one in found
            if (one.secret in names if names else app.sees(one.secret))
            and holder in (None, one.holder)
        ]
    call.data["leases"] = [of_lease(one) for one in found]
    if not found:
        call.print("No leases." if everything else "No lease is open.")
        return
    rows = [
        (
            one.secret,
            one.holder,
            one.login or "-",
            one.shown_state,
            relative(one.ended_at or one.ends_at, now),
            one.id,
        )
        for one in found
    ]
    call.print(table(call.screen, ("secret", "holder", "login", "state", "ends", "id"), rows))
    for one in found:
        if one.is_stranded:
            call.print(indented(Text(f"{one.id}: {one.problem} {one.hint or ''}".rstrip())))


def _of(app: App, id_: str) -> LeaseRecord:
    record = app.journal.leases.get(id_)
    if record is None:
        raise UsageError(
            f"there is no lease {id_!r}.",
            hint="See all of them: rotator lease list",
            safety="Nothing was changed.",
        )
    return record


def _ends(record: LeaseRecord, now: datetime) -> str:
    return f"{at(record.ends_at, seconds=True)} ({relative(record.ends_at, now)})"


def _not_held(record: LeaseRecord, instance: str | None) -> str:
    holders = ", ".join(record.instances)
    return f"lease {record.id}: is not held by {instance!r}, so nothing was changed. Held by: {holders}."


def _told(record: LeaseRecord) -> str:
    if record.outcome is None:
        held = len(record.instances)
        return f"lease {record.id}: let go; {held} more hold its login."
    return f"lease {record.id}: ended. Login {record.login or '-'} is dropped and was rejected."
