"""Arguments and options that several commands share, and their shell completion."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from rotator.config import load
from rotator.core.durations import parse
from rotator.core.errors import RotatorError, UsageError
from rotator.faces.cli.invocation import CONFIG_VARIABLE, DEFAULT_CONFIG, SharedOptions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rotator.config import Settings

LOG_VARIABLE: Final = "ROTATOR_LOG_LEVEL"
LOG_LEVELS: Final = ("debug", "info", "warning", "error", "off")
_PANEL: Final = "Options of every command"


def complete_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of secrets that begin like this."""
    return [name for name in _known(ctx)[0] if name.startswith(incomplete)]


def complete_tags(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the tags that begin like this."""
    return [tag for tag in _known(ctx)[1] if tag.startswith(incomplete)]


def complete_backends(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the backends that begin like this."""
    settings = _settings(ctx)
    return [name for name in settings.backends if name.startswith(incomplete)] if settings else []


def complete_targets(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the targets that begin like this."""
    settings = _settings(ctx)
    return [name for name in settings.targets if name.startswith(incomplete)] if settings else []


def complete_fields(incomplete: str) -> list[str]:
    """Return the fields that every secret has. Others are known to its backend only."""
    return [name for name in ("username", "password") if name.startswith(incomplete)]


def duration(text: str | timedelta) -> timedelta:
    """Read a duration as the configuration has them; a default is one already."""
    if isinstance(text, timedelta):
        return text
    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: {error}.") from error


def since_when(text: str | None, now: datetime) -> datetime | None:
    """Return the moment that `--since` names; None when it was not given. Raises `UsageError`."""
    if text is None:
        return None
    try:
        return now - parse(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"--since {text!r} is neither a duration nor a date.",
            hint="Such as 30d, 12h, 2026-01-31 or 2026-01-31T12:00Z.",
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
        help=f"The configuration (else ${CONFIG_VARIABLE}, else ./{DEFAULT_CONFIG}).",
    ),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", rich_help_panel=_PANEL, help="Answer with one JSON object."),
]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        show_default=False,
        rich_help_panel=_PANEL,
        help="Log what is done to standard error; -vv: everything.",
    ),
]
LogLevel = Annotated[
    str | None,
    typer.Option(
        "--log-level",
        metavar="LEVEL",
        show_default=False,
        rich_help_panel=_PANEL,
        help=f"One of: {', '.join(LOG_LEVELS)} (else ${LOG_VARIABLE}, else off; daemon, worker: info).",
    ),
]
NoColor = Annotated[
    bool,
    typer.Option(
        "--no-color",
        rich_help_panel=_PANEL,
        help="No colours (as with NO_COLOR in the environment).",
    ),
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug", rich_help_panel=_PANEL, help="Show where an error came from, without values."
    ),
]
Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME",
        show_default=False,
        autocompletion=complete_names,
        help="Secrets by name, as in the configuration.",
    ),
]
Backend = Annotated[
    str,
    typer.Argument(
        metavar="BACKEND",
        show_default=False,
        autocompletion=complete_backends,
        help="The backend, as the configuration names it.",
    ),
]
Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        show_default=False,
        autocompletion=complete_names,
        help="A secret by name, as in the configuration.",
    ),
]
Everything = Annotated[bool, typer.Option("--all", help="Every secret of the configuration.")]
Tags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        metavar="TAG",
        show_default=False,
        autocompletion=complete_tags,
        help="Secrets with this tag; given several times, with all of them.",
    ),
]
Due = Annotated[bool, typer.Option("--due", help="Secrets whose time has come.")]
Reason = Annotated[
    str,
    typer.Option(
        "--reason", metavar="TEXT", show_default=False, help="Why; it is kept in the journal."
    ),
]
Patience = Annotated[
    timedelta,
    typer.Option(
        "--patience",
        metavar="DURATION",
        show_default="30s",
        parser=duration,
        help="How long waits may last in all, such as 30s, 5m or 2h, before the command returns "
        "with the rotation open. Retries of a failed step are such waits.",
    ),
]
Wait = Annotated[
    bool,
    typer.Option(
        "--wait", help="Wait as long as it takes: through the grace period and open sessions."
    ),
]
Parallel = Annotated[
    int,
    typer.Option("--parallel", metavar="N", min=1, max=64, help="How many secrets at once."),
]

Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="TIME",
        show_default=False,
        help="Only what happened since then: 30d, 12h, 2026-01-31 or 2026-01-31T12:00Z.",
    ),
]

SHORT: Final = timedelta(seconds=30)
# `--wait`: as good as for ever, and still a date that a calendar has.
ENDLESS: Final = timedelta(days=36_500)


def _known(ctx: typer.Context) -> tuple[Iterable[str], Iterable[str]]:
    """Return names and tags."""
    settings = _settings(ctx)
    if settings is None:
        return [], []
    secrets = settings.secrets
    return list(secrets), sorted({tag for one in secrets.values() for tag in one.tags})


def _settings(ctx: typer.Context) -> Settings | None:
    """Return the configuration; None where it cannot be read: a shell is asking."""
    shared = ctx.obj if isinstance(ctx.obj, SharedOptions) else SharedOptions()
    named = ctx.params.get("config") or shared.config or os.environ.get(CONFIG_VARIABLE)
    try:
        return load(Path(named or DEFAULT_CONFIG))
    except RotatorError:
        return None
