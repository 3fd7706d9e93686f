"""demo: rotate credentials on a scratch PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rotator.core.errors import UsageError
from rotator.faces.cli import exit_codes
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation

if TYPE_CHECKING:
    from rotator.demo.report import Scene

app = typer.Typer()


@command(app, "demo", Panel.PREPARE)
def demo(
    ctx: typer.Context,
    *,
    leak: Annotated[
        bool,
        typer.Option(
            "--leak",
            help="Find a password in the code of an application, replace it, and show that it is rejected.",
        ),
    ] = False,
) -> None:
    """Rotate credentials on a real PostgreSQL while an application keeps logging in.

    Starts a server in a temporary folder, rotates with each strategy, rolls back, kills a rotation
    halfway, resumes it, and prints a report. Takes less than two minutes, needs no configuration and
    leaves nothing behind.

    Examples:
        rotator demo
        rotator demo --leak
        rotator demo --json
    """
    call: Invocation = ctx.obj
    try:
        from rotator.demo import leak as chapter  # noqa: PLC0415
        from rotator.demo.page import leak_page, page, scene_line  # noqa: PLC0415
        from rotator.demo.play import play  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            f"the demo needs a package that is not installed: {error.name}.",
            hint="Install its packages: pip install 'credential-rotator[demo]'",
        ) from error

    def show(scene: Scene) -> None:
        call.print(scene_line(scene))

    if not call.shared.verbose and call.shared.log_level is None:
        # A log of every step would hide the report.
        from rotator import logs  # noqa: PLC0415 # structlog takes 30 ms

        logs.set_up(level="off")
    if leak:
        leaked = chapter.play(show)
        call.data |= leaked.data()
        call.print(leak_page(leaked))
        call.add_code(exit_codes.DONE if leaked.ok else exit_codes.FAILED)
        return
    report = play(show)
    call.data |= report.data()
    call.print(page(report))
    call.add_code(exit_codes.DONE if report.ok else exit_codes.FAILED)
