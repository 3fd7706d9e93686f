"""notify: test the notification channels."""

from __future__ import annotations

import typer

from rotator.core.errors import UsageError
from rotator.faces import answers
from rotator.faces.cli import exit_codes
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.render.help import PlainGroup

app = typer.Typer()
_notify = typer.Typer(cls=PlainGroup, no_args_is_help=True, rich_markup_mode="rich")
app.add_typer(
    _notify,
    name="notify",
    help="Test the channels of `notifications`.",
    rich_help_panel=Panel.INSPECT,
)
# Without a callback typer would run the only command of a group without its name.
_ = _notify.callback()(lambda: None)


class NotDelivered(UsageError):
    """A notice did not reach its channel."""

    kind = "not-delivered"


@command(_notify, "test")
def test(ctx: typer.Context) -> None:
    """Send a test notice to every configured channel, and report the result.

    Examples:
        rotator notify test
    """
    call: Invocation = ctx.obj
    from rotator.logs import get_log  # noqa: PLC0415
    from rotator.notify import Notifier  # noqa: PLC0415

    channels: list[answers.Data] = []
    call.data["channels"] = channels
    with call.open_app() as app:
        settings = app.settings.notifications
        if not settings:
            raise UsageError(
                "no notifications are configured.",
                hint="Add a channel under `notifications:` in the configuration; see `rotator docs test-notifications`.",
            )
        notifier = Notifier(settings, app.resolve, get_log())
        for number, to in enumerate(settings, 1):
            name, why = f"notification {number} ({to.type})", notifier.test(to)
            channels.append(
                {"channel": name, "type": to.type, "delivered": why is None, "what": why}
            )
            if why is None:
                call.print(f"{call.screen.sign('good')} {name}: delivered.")
                call.add_code(exit_codes.DONE)
            else:
                _ = call.fail(NotDelivered(f"{name}: not delivered: {why}"), code=exit_codes.FAILED)
