"""Arguments and options that several commands share, and their shell completion."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from rotator.config import load
from rotator.core.durations import EXAMPLES, parse
from rotator.core.errors import RotatorError, UsageError
from rotator.faces.cli.invocation import CONFIG_VARIABLE, DEFAULT_CONFIG, SharedOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rotator.config import Settings

    _Complete = Callable[..., list[str]]

LOG_VARIABLE: Final = "ROTATOR_LOG_LEVEL"
LOG_LEVELS: Final = ("debug", "info", "warning", "error", "off")
_PANEL: Final = "Options of every command"


def option(flag: str, metavar: str, text: str, complete: _Complete | None = None) -> Any:
    """Return an option with a value. The help shows no default."""
    return typer.Option(
        flag, metavar=metavar, show_default=False, autocompletion=complete, help=text
    )


def argument(metavar: str, text: str, complete: _Complete | None = None) -> Any:
    """Return an argument. The help shows no default."""
    return typer.Argument(metavar=metavar, show_default=False, autocompletion=complete, help=text)


def complete_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of secrets that start with `incomplete`."""
    return [name for name in _known(ctx)[0] if name.startswith(incomplete)]


def complete_tags(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the tags that start with `incomplete`."""
    return [tag for tag in _known(ctx)[1] if tag.startswith(incomplete)]


def complete_backends(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the backends that start with `incomplete`."""
    settings = _settings(ctx)
    return [name for name in settings.backends if name.startswith(incomplete)] if settings else []


def complete_targets(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the targets that start with `incomplete`."""
    settings = _settings(ctx)
    return [name for name in settings.targets if name.startswith(incomplete)] if settings else []


def complete_fields(incomplete: str) -> list[str]:
    """Return the fields that every secret has and that start with `incomplete`."""
    return [name for name in ("username", "password") if name.startswith(incomplete)]


def complete_formats(incomplete: str) -> list[str]:
    """Return the formats that start with `incomplete`."""
    from rotator.agent.formats import FORMATS  # noqa: PLC0415 # only two commands need them

    return [name for name in FORMATS if name.startswith(incomplete)]


def duration(text: str | timedelta) -> timedelta:
    """Parse a duration such as `30s`. A default is a `timedelta` already."""
    if isinstance(text, timedelta):
        return text
    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: {error}. Examples: {EXAMPLES}.") from error


def period(
    since: str | None, until: str | None, now: datetime
) -> tuple[datetime | None, datetime | None]:
    """Return the times that `--since` and `--until` give; None without them. Raises `UsageError`."""
    after, before = _moment("--since", since, now), _moment("--until", until, now)
    if after is not None and before is not None and after >= before:
        raise UsageError(
            f"--since {since} is not before --until {until}.",
            hint="A duration counts back from now: --since 30d --until 7d.",
        )
    return after, before


def _moment(flag: str, text: str | None, now: datetime) -> datetime | None:
    if text is None:
        return None
    try:
        return now - parse(text)
    except (ValueError, OverflowError):
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"{flag} {text!r} is neither a duration nor a date.",
            hint="Examples: 30d, 12h, 2026-01-31, 2026-01-31T12:00Z.",
        ) from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        show_default=False,
        rich_help_panel=_PANEL,
        help=f"Configuration file. Default: ${CONFIG_VARIABLE}, or ./{DEFAULT_CONFIG}.",
    ),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", rich_help_panel=_PANEL, help="Print the answer as one JSON object."),
]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        show_default=False,
        rich_help_panel=_PANEL,
        help="Log to standard error; use -vv for more detail.",
    ),
]
LogLevel = Annotated[
    str | None,
    typer.Option(
        "--log-level",
        metavar="LEVEL",
        show_default=False,
        rich_help_panel=_PANEL,
        help=f"One of: {', '.join(LOG_LEVELS)}. Default: ${LOG_VARIABLE}, or off (daemon, worker, agent run: info; exec: warning).",
    ),
]
NoColor = Annotated[
    bool,
    typer.Option(
        "--no-color",
        rich_help_panel=_PANEL,
        help="Print without colors, as with NO_COLOR in the environment.",
    ),
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        rich_help_panel=_PANEL,
        help="Print the traceback of an error, without the values of variables.",
    ),
]
Names = Annotated[
    list[str] | None,
    argument("NAME", "Names of the secrets, as they appear in the configuration.", complete_names),
]
NamePatterns = Annotated[
    list[str] | None,
    argument(
        "NAME", "Names of the secrets, or patterns such as 'app-*' (in quotes).", complete_names
    ),
]
Backend = Annotated[
    str,
    argument(
        "BACKEND", "Name of the backend, as it appears in the configuration.", complete_backends
    ),
]
Name = Annotated[
    str, argument("NAME", "Name of the secret, as it appears in the configuration.", complete_names)
]
Everything = Annotated[bool, typer.Option("--all", help="All secrets of the configuration.")]
Tags = Annotated[
    list[str] | None,
    option(
        "--tag",
        "TAG",
        "Only secrets with this tag. If repeated, only secrets that have all of the tags.",
        complete_tags,
    ),
]
Due = Annotated[bool, typer.Option("--due", help="Only secrets that are due.")]
Reason = Annotated[str, option("--reason", "TEXT", "Reason, recorded in the journal.")]
Template = Annotated[
    str, option("--template", "TEXT", "Text with {field} or {field:url}, for --format template.")
]
BreakGlass = Annotated[
    bool,
    typer.Option(
        "--break-glass",
        help="Act without the approvals that rules want. Needs the role breaker and --reason; everybody is"
        " notified.",
    ),
]
Timeout = Annotated[
    timedelta,
    typer.Option(
        "--timeout",
        metavar="DURATION",
        show_default=False,
        parser=duration,
        help="Maximum total wait, such as 30s, 5m or 2h, including retries of a failed step. The"
        " command then returns and leaves the rotation open. Default: 30s.",
    ),
]
Wait = Annotated[
    bool,
    typer.Option(
        "--wait",
        help="Wait without a limit: until the grace period is over and sessions are closed.",
    ),
]
Parallel = Annotated[
    int,
    typer.Option(
        "--parallel",
        metavar="N",
        min=1,
        max=64,
        help="Maximum number of secrets to work on at once.",
    ),
]

Since = Annotated[
    str | None,
    option(
        "--since", "TIME", "Only events since that time: 30d, 12h, 2026-01-31 or 2026-01-31T12:00Z."
    ),
]
Until = Annotated[
    str | None,
    option("--until", "TIME", "Only events before that time, in the same forms as --since."),
]

SHORT: Final = timedelta(seconds=30)
# `--wait`: longer than any wait, and still within the range of dates.
ENDLESS: Final = timedelta(days=36_500)


def _known(ctx: typer.Context) -> tuple[Iterable[str], Iterable[str]]:
    """Return the names and the tags of all secrets."""
    settings = _settings(ctx)
    if settings is None:
        return [], []
    secrets = settings.secrets
    return list(secrets), sorted({tag for one in secrets.values() for tag in one.tags})


def _settings(ctx: typer.Context) -> Settings | None:
    """Return the configuration; None when it cannot be read, since a shell cannot show errors."""
    shared = ctx.obj if isinstance(ctx.obj, SharedOptions) else SharedOptions()
    named = ctx.params.get("config") or shared.config or os.environ.get(CONFIG_VARIABLE)
    try:
        return load(Path(named or DEFAULT_CONFIG))
    except RotatorError:
        return None
