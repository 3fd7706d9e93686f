"""incident: a password has leaked. Replace it, and try it until every address rejects it."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from rotator.core.errors import RotatorError, UsageError
from rotator.core.history import MAPPED, OPEN, PROVEN
from rotator.core.incident_timeline import CLOSED
from rotator.engine import LeakReport, Mode
from rotator.faces import answers
from rotator.faces.cli import exit_codes
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.leaks import (
    MOST,
    WITHIN,
    Opening,
    Report,
    by_login,
    by_value_of,
    incidents_of,
    leaked_values,
    open_incident,
    open_ones,
    opened_to_contain,
    timelines_of,
)
from rotator.faces.cli.options import (
    SHORT,
    BreakGlass,
    Everything,
    Names,
    Parallel,
    Tags,
    argument,
    complete_names,
    complete_targets,
    duration,
    option,
)
from rotator.faces.cli.render import incidents as shown
from rotator.faces.cli.render import json_output
from rotator.faces.cli.render.console import table
from rotator.faces.cli.render.help import PlainGroup

if TYPE_CHECKING:
    from rotator.bootstrap import App
    from rotator.core.incident_timeline import Timeline

app = typer.Typer()
_incident = typer.Typer(cls=PlainGroup, no_args_is_help=True, rich_markup_mode="rich")
app.add_typer(
    _incident,
    name="incident",
    help="Replace a leaked password, and verify that every address rejects it.",
    rich_help_panel=Panel.INTERVENE,
)


class Replace(StrEnum):
    """How a leaked password is replaced, as `resume` takes it."""

    MOVE = "move"
    KILL = "kill"


_Reason = Annotated[
    str, option("--reason", "TEXT", "What is known of the leak, recorded in the journal.")
]
_Within = Annotated[
    timedelta,
    typer.Option(
        "--within",
        metavar="DURATION",
        show_default=False,
        parser=duration,
        help="With --mode move: how long consumers and open sessions are waited for. Default: 10m.",
    ),
]
_Limit = Annotated[
    timedelta | None,
    typer.Option(
        "--timeout",
        metavar="DURATION",
        show_default=False,
        parser=duration,
        help="Maximum total wait of this command. A daemon, a worker or `rotator incident resume`"
        " continues. Default: 30s, and the time of --within.",
    ),
]
_Subject = Annotated[
    str, argument("NAME|ID", "A secret, or the id of an incident.", complete_names)
]


@command(_incident, "open")
def open_(
    ctx: typer.Context,
    names: Names = None,
    *,
    reason: _Reason,
    tags: Tags = None,
    everything: Everything = False,
    value_from: Annotated[
        str | None,
        option(
            "--value-from",
            "SOURCE",
            "Find the secret by the leaked value: prompt, - (standard input), file:PATH or env:NAME."
            " It is compared in memory with the versions that the backends hold.",
        ),
    ] = None,
    reports: Annotated[
        list[Path] | None,
        option(
            "--from",
            "FILE",
            "Find the secrets by the values in a report: gitleaks, trufflehog, GitHub, GitLab; - for"
            " standard input. Without --mode, `on_leak` of each policy decides: by default the incident"
            " is only recorded.",
        ),
    ] = None,
    login: Annotated[
        str | None, option("--login", "LOGIN", "Find the secret by its current or former login.")
    ] = None,
    target: Annotated[
        str | None,
        option("--target", "TARGET", "With --login: only on this target.", complete_targets),
    ] = None,
    version: Annotated[
        str | None,
        option("--version", "VERSION", "The version that leaked. Default: the current one."),
    ] = None,
    mode: Annotated[
        Mode | None,
        typer.Option(
            "--mode",
            show_default=False,
            help="move: consumers get the new password first, for at most --within. kill: the leaked"
            " password is made invalid first. map: only record the incident. Default: move.",
        ),
    ] = None,
    within: _Within = WITHIN,
    break_glass: BreakGlass = False,
    incident: Annotated[
        str | None, option("--id", "ID", "Your own id of the incident, such as INC-42.")
    ] = None,
    approved_by: Annotated[
        str, option("--approved-by", "WHO", "Who approved it, recorded in the journal.")
    ] = "",
    most: Annotated[
        int,
        typer.Option("--max", metavar="N", min=1, help="Maximum number of secrets to replace."),
    ] = MOST,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show who uses the password and what each mode costs. Change nothing."
        ),
    ] = False,
    timeout: _Limit = None,
    parallel: Parallel = 8,
) -> None:
    """Report that a password leaked, replace it, and verify that every address rejects it.

    First it shows who uses the password. Then it replaces the password without a grace period and outside
    of windows, ends sessions that began before, and logs in with the leaked password at each address: the
    incident counts as proven once all of them reject it. The attempt is repeated after 2 minutes, 1 hour, 24
    hours, and each day for 30 days.

    It takes over a parked secret, and an open rotation. Another version than the current one may be the
    one that leaked: give --version or --value-from.

    Exit codes: 0 every address rejects the leaked password, 1 no managed secret has the value, 2 usage or
    configuration, 3 not proven yet, 4 locked by another process.

    Examples:
        rotator incident open app-db --reason "pushed to a public repository" --dry-run
        rotator incident open app-db --reason "pushed to a public repository"
        rotator incident open app-db --mode kill --reason "unknown client is logged in"
        rotator incident open --value-from prompt --reason "found in a paste"
        rotator incident open --tag billing --mode kill --id INC-42 --reason "laptop stolen"
        rotator incident open --from gitleaks.json --reason "weekly scan"
    """
    call: Invocation = ctx.obj
    if break_glass:
        call.break_glass(reason)
    by_value = value_from is not None or bool(reports)
    if not (names or tags or everything or by_value or login):
        raise UsageError(
            "no secrets selected.",
            hint="Name them, or give --tag, --all, --value-from, --from or --login.",
            safety="Nothing was changed.",
        )
    if target is not None and login is None:
        raise UsageError("--target belongs to --login.", safety="Nothing was changed.")
    if version is not None and (by_value or login or tags or everything or len(names or ()) != 1):
        raise UsageError(
            "--version belongs to one named secret.",
            hint="rotator incident open NAME --reason 'WHY' --version VERSION",
            safety="Nothing was changed.",
        )
    report = Report(
        reason=reason,
        mode=mode or (None if reports else Mode.MOVE),
        within=within,
        id=incident,
        approved_by=approved_by,
        most=most,
        dry_run=dry_run,
    )

    def pick(opened: App) -> dict[str, str | None]:
        chosen = opened.names(only=names or (), tags=tags or (), everything=everything)
        if by_value:
            values = leaked_values(opened, value_from, reports or ())
            return by_value_of(call, opened, chosen or list(opened.settings.secrets), values)
        if login is not None:
            return by_login(opened, login, target, chosen)
        return dict.fromkeys(chosen, version)

    open_incident(call, pick, report, timeout=timeout, parallel=parallel)


@command(_incident, "resume")
def resume(
    ctx: typer.Context,
    subjects: Annotated[
        list[str] | None,
        argument(
            "NAME|ID", "Secrets, or ids of incidents. Default: all open ones.", complete_names
        ),
    ] = None,
    *,
    mode: Annotated[
        Replace | None,
        typer.Option("--mode", show_default=False, help="Change the mode: move or kill."),
    ] = None,
    within: _Within = WITHIN,
    timeout: _Limit = None,
    parallel: Parallel = 8,
) -> None:
    """Continue incidents: replace what is not replaced yet, and try the leaked passwords again.

    With --mode, an incident that is only recorded is decided, or `move` becomes `kill`.

    Exit codes: those of `open`.

    Examples:
        rotator incident resume
        rotator incident resume app-db --mode kill
        rotator incident resume INC-42
    """
    call: Invocation = ctx.obj
    with opened_to_contain(call, parallel) as (opened, contain):
        names = open_ones(opened, subjects or ())
        if not names:
            call.print("No incident is open.")
            return
        if mode is not None:
            reports = {
                name: LeakReport(
                    id=record.incident,
                    reason=f"mode {mode.value}",
                    mode=Mode(mode.value),
                    within=within,
                    version=record.leaked_version,
                )
                for name in names
                if (record := opened.journal.secret(name)) is not None
                and record.incident is not None
            }
            names = [*Opening(call, opened, parallel).open(reports)]
        contain(names, timeout or within + SHORT)


@command(_incident, "list")
def list_(
    ctx: typer.Context,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are closed.")] = False,
) -> None:
    """List the incidents that are open or still watched.

    Examples:
        rotator incident list
        rotator incident list --all
    """
    call: Invocation = ctx.obj
    with call.open_app() as opened:
        found = [one for one in incidents_of(opened) if everything or one.state != CLOSED]
        call.data["incidents"] = [answers.of_timeline(line, events=False) for line in found]
        if not found:
            call.print("No incident is open." if not everything else "There was no incident.")
            return
        call.print(table(call.screen, shown.COLUMNS, shown.rows(found, opened.clock.now())))


@command(_incident, "show")
def show(
    ctx: typer.Context,
    subject: _Subject,
    *,
    receipt: Annotated[
        Path | None,
        option(
            "--receipt",
            "DIR",
            "Also write a signed receipt: the report and the events of its secrets, verifiable with"
            " `rotator audit verify --export DIR`.",
        ),
    ] = None,
) -> None:
    """Show an incident: what was done when, by whom, what it ended, and what is not proven.

    Exit codes: 0 every address rejects the leaked password, 3 not proven yet.

    Examples:
        rotator incident show app-db
        rotator incident show INC-42 --receipt receipt-INC-42
    """
    call: Invocation = ctx.obj
    with call.open_app() as opened:
        found = timelines_of(opened, subject)
        call.data["incidents"] = [answers.of_timeline(line, events=True) for line in found]
        for line in found:
            call.print(*shown.of_timeline(call.screen, line, opened.clock.now()))
        if receipt is not None:
            text = json_output.dumps({"incidents": call.data["incidents"]}, pretty=True)
            # Also the chains of former names.
            secrets = {event.secret: None for line in found for event in line.events}
            files = opened.write_receipt(receipt, list(secrets), text + "\n")
            call.data["files"] = [str(file) for file in files]
            call.print(f"Wrote {receipt}: {', '.join(file.name for file in files)}.")
        if any(
            line.state in (OPEN, MAPPED) or line.unproven or line.proven_at is None
            for line in found
        ):
            call.add_code(exit_codes.STUCK)


@command(_incident, "close")
def close(ctx: typer.Context, subject: _Subject, *, reason: _Reason) -> None:
    """End the watch over a leaked password, proven or not. The journal keeps which of both.

    Examples:
        rotator incident close app-db --reason "the test database is gone"
    """
    call: Invocation = ctx.obj
    with call.open_app() as opened:
        closed: list[str] = []
        for name in open_ones(opened, [subject]):
            record = opened.journal.secret(name)
            try:
                opened.engine.close_incident(opened.secret(name), reason=reason)
            except RotatorError as error:
                call.fail(error, secret=name)
                continue
            closed.append(name)
            proven = record is not None and record.incident_state == PROVEN
            sign = call.screen.sign("good" if proven else "warn")
            what = "was rejected at each address" if proven else "was NOT proven to be rejected"
            call.print(Text.assemble(sign, f" {name}: closed; the leaked password {what}."))
        call.data["closed"] = closed


@command(_incident, "reopen")
def reopen(
    ctx: typer.Context,
    subject: _Subject,
    *,
    reason: _Reason,
    timeout: _Limit = None,
    parallel: Parallel = 8,
) -> None:
    """Begin the watch over a leaked password again, and try the password now.

    Exit codes: those of `open`.

    Examples:
        rotator incident reopen app-db --reason "a snapshot was restored"
    """
    call: Invocation = ctx.obj
    with opened_to_contain(call, parallel) as (opened, contain):
        names: list[str] = []
        for line in timelines_of(opened, subject):
            try:
                _require_newest(opened, line)
                _ = opened.engine.reopen_incident(opened.secret(line.secret), reason=reason)
            except RotatorError as error:
                call.fail(error, secret=line.secret)
                continue
            names.append(line.secret)
        contain(names, timeout or SHORT)


def _require_newest(opened: App, line: Timeline) -> None:
    """Raise `UsageError` for an incident that another one of the secret has followed."""
    (newest,) = timelines_of(opened, line.secret)
    if newest.incident != line.incident:
        raise UsageError(
            f"incident {line.incident} was followed by {newest.incident}, which tries its password too.",
            hint=f"Reopen that one: rotator incident reopen {line.secret} --reason 'WHY'",
            safety="Nothing was changed.",
        )
