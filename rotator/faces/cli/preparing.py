"""check, doctor, policy: everything before the first rotation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from rotator.faces.cli import envelope, exits
from rotator.faces.cli.command import command
from rotator.faces.cli.options import Backend, Names
from rotator.faces.cli.run import Run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

    from rotator.core.model import Finding

_PANEL = "Prepare"
_SIGNS: Final = {"ok": "good", "warning": "warn", "error": "bad"}


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(
        app,
        "check",
        panel=_PANEL,
        examples="""
        rotator check
        rotator check -c /etc/rotator/rotator.yaml --json
        """,
    )(check)
    command(
        app,
        "doctor",
        panel=_PANEL,
        examples="""
        rotator doctor
        rotator doctor app-db
        """,
    )(doctor)
    command(
        app,
        "policy",
        panel=_PANEL,
        examples="""
        rotator policy vault > rotator.hcl
        rotator policy vault app-db --for consumer
        rotator policy aws --for lambda
        """,
    )(policy)


def check(run: Run) -> None:
    """Read the configuration and say everything that is wrong with it. Nothing is connected to."""
    from rotator.config import load  # noqa: PLC0415
    from rotator.faces.cli.screen import plural  # noqa: PLC0415

    settings = load(run.config)
    counts = {
        "secrets": len(settings.secrets),
        "targets": len(settings.targets),
        "backends": len(settings.backends),
    }
    run.data |= {"file": str(settings.file), **counts}
    listed = ", ".join(plural(count, noun.removesuffix("s")) for noun, count in counts.items())
    run.say(f"{settings.file} is right: {listed}.", "Would it work? rotator doctor")


def doctor(run: Run, names: Names = None) -> None:
    """Connect, and say whether rotations would work: each finding with its remedy.

    Can the admin do what the strategy needs? Does the target refuse a wrong password? Is the
    backend writable? Is the journal sound? Nothing that an application sees is changed.
    """
    from rotator.faces.cli.screen import plural  # noqa: PLC0415

    with run.open_app() as app:
        found = app.doctor(app.names(only=names or (), everything=not names))
    worst = [one.severity.value for one in found]
    run.data |= {
        "findings": envelope.of_findings(found),
        "errors": worst.count("error"),
        "warnings": worst.count("warning"),
    }
    run.say(*findings(run, found))
    if "error" in worst:
        run.ended(exits.FAILED)
    errors, warnings = worst.count("error"), worst.count("warning")
    summary = f"{plural(errors, 'error')}, {plural(warnings, 'warning')}."
    run.say("", summary if {"error", "warning"} & set(worst) else "No problems found.")


def policy(
    run: Run,
    backend: Backend,
    names: Names = None,
    *,
    of: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="WHOM",
            help="rotator, or consumer: an application that reads them. AWS also: lambda and"
            " lambda-sweep, the roles of the rotation function and of its sweep; lambda-invoke, who"
            " may call that function.",
        ),
    ] = "rotator",
    also: Annotated[
        list[str] | None,
        typer.Option(
            "--also",
            metavar="PATH",
            show_default=False,
            help="A further path, of a secret that is not configured yet, such as one to import;"
            " may be repeated.",
        ),
    ] = None,
) -> None:
    """Print the least rights that rotator, or an application, needs in a backend.

    In the backend's own language, for exactly the paths that the configuration names. Nothing is
    connected to.
    """
    from rotator.bootstrap import policy as made  # noqa: PLC0415

    text = made(run.config, backend, names or (), of=of, also=also or ())
    run.data |= {"backend": backend, "for": of, "policy": text}
    if not run.as_json:
        run.write(text)


def findings(run: Run, found: Iterable[Finding]) -> Iterable[RenderableType]:
    """Return findings as they are shown."""
    from rich.text import Text  # noqa: PLC0415

    from rotator.faces.cli.screen import indented  # noqa: PLC0415

    for one in found:
        sign = run.screen.sign(_SIGNS[one.severity.value])
        yield Text.assemble(sign, " ", (f"{one.subject}: ", "bold"), one.message)
        if one.remedy:
            yield indented(Text.assemble(("Next: ", "bold"), one.remedy))
