"""demo: the main job on a real PostgreSQL, in front of a newcomer's eyes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotator.core.errors import UsageError
from rotator.faces.cli import exits
from rotator.faces.cli.command import command
from rotator.faces.cli.run import Run

if TYPE_CHECKING:
    import typer

    from rotator.demo.report import Scene


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    command(
        app,
        "demo",
        panel="Prepare",
        examples="""
        rotator demo
        rotator demo --json
        """,
    )(demo)


def demo(run: Run) -> None:
    """Rotate credentials on a real PostgreSQL while an application keeps logging in.

    Starts a server in a scratch folder, rotates with each strategy, rolls back, kills a rotation
    half-way and resumes it, and ends with a page of what was seen. Takes less than two minutes,
    needs no configuration and leaves nothing behind.
    """
    try:
        from rotator.demo.page import page, scene_line  # noqa: PLC0415
        from rotator.demo.play import play  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            f"the demo needs a package that is not installed: {error.name}.",
            hint="Install what it needs: pip install 'credential-rotator[demo]'",
        ) from error

    def tell(scene: Scene) -> None:
        run.say(scene_line(scene))

    if not run.shared.verbose and run.shared.log_level is None:
        # Its page is what is to be read; a log of every step beside it would drown it.
        from rotator import observe  # noqa: PLC0415 # structlog takes 30 ms

        observe.set_up(level="off")
    report = play(tell)
    run.data |= report.data()
    run.say(page(report))
    run.ended(exits.DONE if report.ok else exits.FAILED)
