"""demo: rotate credentials on a scratch PostgreSQL."""

from __future__ import annotations

import importlib
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from rotator.core.errors import UsageError
from rotator.faces.cli import exit_codes
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.services import require_packages

if TYPE_CHECKING:
    from rotator.demo.console import Visit
    from rotator.demo.report import DemoReport, Scene

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
    web: Annotated[
        bool,
        typer.Option("--web", help="Show the run in the web console too, until Ctrl-C."),
    ] = False,
) -> None:
    """Rotate credentials on a real PostgreSQL while an application keeps logging in.

    Starts a server in a temporary folder, rotates with each strategy, rolls back, kills a rotation
    halfway, resumes it, and prints a report. Takes less than two minutes, needs no configuration and
    leaves nothing behind.

    Examples:
        rotator demo
        rotator demo --leak
        rotator demo --web
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
    report = play(show, _visit(call) if web else None)
    call.data |= report.data()
    if not web:
        call.print(page(report))
    call.add_code(exit_codes.DONE if report.ok else exit_codes.FAILED)


def _visit(call: Invocation) -> Visit:
    """Return what is printed for a person who looks at the demo in a browser."""
    from rotator.demo.console import Visit  # noqa: PLC0415 # needs an extra
    from rotator.demo.page import page  # noqa: PLC0415
    from rotator.system import SystemEntropy  # noqa: PLC0415

    if call.as_json:
        raise UsageError("--web waits for Ctrl-C, and --json answers at the end: use one of them.")
    with require_packages("web"):
        _ = importlib.import_module("rotator.faces.web.server")
    password = SystemEntropy().token(12).hex()

    def opened(url: str, user: str) -> None:
        call.print(f"The web console: {url}, user {user}, password {password}")

    def ended(report: DemoReport) -> None:
        call.print(page(report))
        call.print(Text("The web console is still open. Ctrl-C ends it.", style="bold"))
        with suppress(KeyboardInterrupt):
            while True:
                signal.pause()

    return Visit(password=password, opened=opened, ended=ended)
