"""notify: try the channels that notices are sent to."""

from __future__ import annotations

import typer

from rotator.core.errors import UsageError
from rotator.faces.cli import envelope, exits
from rotator.faces.cli.command import command
from rotator.faces.cli.help_words import PlainGroup
from rotator.faces.cli.run import Run


class NotDelivered(UsageError):
    """A notice did not reach its channel."""

    kind = "not-delivered"


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    notify = typer.Typer(cls=PlainGroup, no_args_is_help=True, rich_markup_mode="rich")
    app.add_typer(
        notify, name="notify", help="Try the channels of `notifications`.", rich_help_panel="Look"
    )
    # A group with one command would run it without its name.
    _ = notify.callback()(lambda: None)
    command(
        notify,
        "test",
        title="notify test",
        examples="""
        rotator notify test
        """,
    )(test)


def test(run: Run) -> None:
    """Send a test notice to every configured channel, and report which of them took it."""
    from rotator.notify import Notifier  # noqa: PLC0415
    from rotator.observe import get_log  # noqa: PLC0415

    channels: list[envelope.Data] = []
    run.data["channels"] = channels
    with run.open_app() as app:
        settings = app.settings.notifications
        if not settings:
            raise UsageError(
                "no notifications are configured.",
                hint="Add a channel under `notifications:` in the configuration; see docs/operations.md.",
            )
        notifier = Notifier(settings, app.resolve, get_log())
        for number, to in enumerate(settings, 1):
            name, why = f"notification {number} ({to.type})", notifier.test(to)
            channels.append(
                {"channel": name, "type": to.type, "delivered": why is None, "what": why}
            )
            if why is None:
                run.say(f"{run.screen.sign('good')} {name}: delivered.")
                run.ended(exits.DONE)
            else:
                _ = run.fail(NotDelivered(f"{name}: not delivered: {why}"), code=exits.FAILED)
