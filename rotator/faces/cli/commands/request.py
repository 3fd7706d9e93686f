"""request: ask an engine to act, without access to targets and backends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from rotator.core.access import ACTIONS, Permission
from rotator.core.errors import UsageError
from rotator.core.model import IncidentMode
from rotator.core.requests import OPEN_STATES, RequestState
from rotator.faces.cli import exit_codes
from rotator.faces.cli.command import Panel, command
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.options import BreakGlass, Name, argument, option
from rotator.faces.cli.render import requests as render
from rotator.plugins import near

if TYPE_CHECKING:
    from rotator.core.model import Json
    from rotator.core.requests import Request
    from rotator.requests import Requests

app = typer.Typer()

# An incident in mode `kill` is the permission `kill`; the old credential is only ever revoked now.
_ACTIONS: Final = {one.value.removesuffix("-now"): one for one in ACTIONS}
_POLL: Final = 0.5
_CODES: Final = {
    RequestState.TAKEN: exit_codes.DONE,
    RequestState.FAILED: exit_codes.FAILED,
    RequestState.REFUSED: exit_codes.FORBIDDEN,
    RequestState.EXPIRED: exit_codes.LATER,
}


@command(app, "request", Panel.ROTATE)
def request(
    ctx: typer.Context,
    action: Annotated[str, argument("ACTION", f"One of: {', '.join(_ACTIONS)}.")],
    name: Name,
    *,
    reason: Annotated[str, option("--reason", "TEXT", "Reason, recorded in the journal.")],
    terminate: Annotated[
        bool, typer.Option("--terminate", help="revoke: end open sessions of the old login.")
    ] = False,
    mode: Annotated[
        str, option("--mode", "MODE", "incident: `map` or `move`. Default: move.")
    ] = IncidentMode.MOVE.value,
    break_glass: BreakGlass = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the request is carried out, or has ended.")
    ] = False,
) -> None:
    """Ask an engine to act on a secret. Needs the journal, and no access to targets and backends.

    The daemon carries it out within a second or two, or once it is approved. See `rotator docs roles`.

    Exit codes: 0 requested (with --wait: done), 1 failed, 2 usage, 4 expired, 5 not permitted or refused.

    Examples:
        rotator request rotate app-db --reason "left the team"
        rotator request rotate app-db --reason "left the team" --wait
        rotator request revoke app-db --terminate --reason "the old password was leaked"
        rotator request kill app-db --break-glass --reason "it is on a public page"
    """
    call: Invocation = ctx.obj
    chosen = _ACTIONS.get(action)
    if chosen is None:
        raise UsageError(
            f"{action!r} cannot be requested.",
            hint=near(action, _ACTIONS) or f"One of: {', '.join(_ACTIONS)}.",
        )
    with call.open_app() as app:
        asked = app.requests.ask(
            chosen,
            name,
            actor=app.actor,
            reason=reason,
            options=_options(chosen, terminate, mode),
            break_glass=break_glass,
        )
        if wait:
            asked = _follow(app.requests, asked)
            call.add_code(_CODES[app.requests.state(asked)])
        render.show_one(call, app.requests, asked)


def _options(action: Permission, terminate: bool, mode: str) -> dict[str, Json]:  # noqa: FBT001 # of the command line
    if terminate and action is not Permission.REVOKE:
        raise UsageError("--terminate is an option of revoke.", safety="Nothing was requested.")
    if action is Permission.REVOKE:
        return {"end_sessions": terminate}
    if action is Permission.KILL:
        return {"mode": IncidentMode.KILL.value}
    if action is not Permission.INCIDENT:
        return {}
    if mode not in (IncidentMode.MAP, IncidentMode.MOVE):
        raise UsageError(
            f"there is no mode {mode!r} of a requested incident.",
            hint="Modes: map, move. To make the password invalid first, request `kill`.",
        )
    return {"mode": mode}


def _follow(requests: Requests, asked: Request) -> Request:
    """Wait until a request has ended or expired."""
    while requests.state(asked) in OPEN_STATES:
        requests.clock.sleep(_POLL)
        asked = requests.get(asked.id)
    return asked
