"""report: what the journal proves about a period, for an auditor."""

from __future__ import annotations

from enum import StrEnum
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rotator.core.errors import UsageError
from rotator.faces.cli import exit_codes
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import Tags, option, period
from rotator.report.controls import Framework

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from rotator.bootstrap import App
    from rotator.report.model import Period
    from rotator.report.report import Report

app = typer.Typer()


class Form(StrEnum):
    """How a report is written."""

    TEXT = "text"
    JSON = "json"
    CSV = "csv"
    HTML = "html"
    PDF = "pdf"
    XLSX = "xlsx"


# These are no text, so they go into a file.
_BINARY = (Form.PDF, Form.XLSX)


@command(app, "report", Panel.JOURNAL)
def report(
    ctx: typer.Context,
    *,
    since: Annotated[
        str,
        typer.Option(
            "--since",
            metavar="TIME",
            help="Start of the period: 30d, 12h, 2026-01-31 or 2026-01-31T12:00Z.",
        ),
    ] = "30d",
    until: Annotated[
        str | None,
        option("--until", "TIME", "End of the period. Default: now."),
    ] = None,
    frameworks: Annotated[
        str | None,
        option(
            "--framework",
            "NAMES",
            f"Also list the controls of these frameworks, with commas: {', '.join(Framework)}.",
        ),
    ] = None,
    form: Annotated[
        Form,
        typer.Option(
            "--format",
            help="CSV has one row for each secret, and for each login that nobody manages. PDF and XLSX need --out.",
        ),
    ] = Form.TEXT,
    out: Annotated[
        Path | None, option("--out", "FILE", "New file for the report. Default: standard output.")
    ] = None,
    pack: Annotated[
        Path | None,
        option(
            "--pack",
            "DIR",
            "Write an evidence pack into a new or empty folder: the report, the events that prove it,"
            " and a program that verifies both.",
        ),
    ] = None,
    sample: Annotated[
        int,
        typer.Option("--sample", metavar="N", min=0, help="Draw a sample of N rotations."),
    ] = 0,
    seed: Annotated[str, typer.Option("--seed", metavar="TEXT", help="Seed of the sample.")] = "0",
    tags: Tags = None,
) -> None:
    """Report what the journal proves about a period: ages, proofs, exceptions, incidents, access, coverage.

    Reads the journal only. The maximum age is that of the credential that was served, at any moment of
    the period. Each row names its events. What the journal does not show is listed as not covered. The same
    journal and the same period give the same report.

    Exit codes: 0 nothing was late, 1 a secret was late by more than a day, or the journal is damaged.

    Examples:
        rotator report --since 30d
        rotator report --since 2026-01-01 --until 2026-04-01 --framework pci,soc2 --format html --out q1.html
        rotator report --since 90d --format xlsx --out q1.xlsx
        rotator report --since 90d --sample 25 --seed 2026-q1 --pack evidence-2026-q1
    """
    call: Invocation = ctx.obj
    if pack is not None and out is not None:
        raise UsageError("--pack cannot be combined with --out.", hint="Give one or the other.")
    if form in _BINARY and out is None:
        raise UsageError(
            f"--format {form.value} needs a file.", hint=f"Add --out report.{form.value}"
        )
    chosen = _frameworks(frameworks)
    with call.open_app() as opened:
        chosen_period = _period(since, until, opened.clock.now())
        only = _only(opened, tags or ())
        made = opened.report(
            chosen_period,
            only=only,
            frameworks=chosen,
            sample=sample,
            seed=seed,
            managed=opened.settings.secrets,
            targets=opened.settings.targets,
        )
        with made:
            call.data |= made.head
            if pack is not None:
                files = opened.write_pack(pack, made)
                _written(call, files)
                call.print(f"Verify it: python3 {pack / 'verify.py'}")
            elif out is not None:
                _write(out, made, form)
                _written(call, [out])
            elif not call.as_json:
                for part in _parts(made, form):
                    call.write(part)
            _judge(call, made)


def _judge(call: Invocation, made: Report) -> None:
    """Set the exit code, and name its cause on standard error."""
    if not made.is_intact:
        places = len(made.head["journal"]["damage"])
        call.warn(f"The journal is DAMAGED ({places} places): rotator audit verify")
    if made.is_late:
        call.warn(f"Late: {made.head['totals']['late']}")
    if made.is_late or not made.is_intact:
        call.add_code(exit_codes.FAILED)


def _parts(made: Report, form: Form) -> Iterator[str]:
    from rotator.report import formats, html_page  # noqa: PLC0415

    match form:
        case Form.TEXT:
            return (f"{line}\n" for line in formats.text(made))
        case Form.JSON:
            return formats.json_text(made)
        case Form.CSV:
            return formats.csv_text(made)
        case _:
            return html_page.page(made)


def _write(out: Path, made: Report, form: Form) -> None:
    from rotator.journal.export import private_file  # noqa: PLC0415

    try:
        if form not in _BINARY:
            with private_file(out) as file:
                file.writelines(_parts(made, form))
            return
        from rotator.report import pdf, spreadsheet  # noqa: PLC0415

        # It is in memory first, so that a missing package leaves no empty file.
        content = BytesIO()
        (pdf if form is Form.PDF else spreadsheet).write(made, content)
        with private_file(out) as file:
            _ = file.buffer.write(content.getvalue())
    except OSError as error:
        raise UsageError(
            f"{out} cannot be written ({error.strerror}).", hint="Give a file that does not exist."
        ) from error


def _written(call: Invocation, files: Sequence[Path]) -> None:
    call.data["files"] = [str(file) for file in files]
    call.print(*(f"written: {file}" for file in files))


def _period(since: str, until: str | None, now: datetime) -> Period:
    from rotator.report.model import Period  # noqa: PLC0415

    start, end = period(since, until, now)
    end = end or now
    if end > now:
        raise UsageError("--until is in the future.", hint="A period ends now at the latest.")
    if start is None or start >= end:
        raise UsageError("--since is in the future.", hint="A period ends now at the latest.")
    return Period(since=start, until=end)


def _frameworks(names: str | None) -> list[Framework]:
    chosen: list[Framework] = []
    for name in (names or "").split(","):
        if not name.strip():
            continue
        try:
            framework = Framework(name.strip().lower())
        except ValueError as error:
            raise UsageError(
                f"--framework: {name.strip()!r} is unknown.", hint=f"One of: {', '.join(Framework)}"
            ) from error
        if framework not in chosen:
            chosen.append(framework)
    return chosen


def _only(opened: App, tags: Sequence[str]) -> set[str] | None:
    """Return the names of the tagged secrets, or of those that the actor may audit, with their former ones.

    None for all.
    """
    if not tags and opened.sees_all:
        return None
    chosen = set(opened.names(tags=tags, everything=not tags))
    if not tags:
        chosen |= {one.name for one in opened.journal.secrets() if opened.sees(one.name)}
    for name in sorted(chosen):
        record = opened.journal.secret(name)
        chosen |= set(record.former_names if record is not None else ())
    return chosen
