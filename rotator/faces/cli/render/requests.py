"""Shows requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotator.core.requests import OPEN_STATES, RequestState
from rotator.faces.cli.render.console import cell, table
from rotator.faces.wording import plural, relative

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotator.core.requests import Request
    from rotator.faces.cli.invocation import Invocation
    from rotator.faces.cli.render.json_output import Data
    from rotator.requests import Requests


def data(requests: Requests, one: Request) -> Data:
    """Return a request as `--json` shows it."""
    ended = one.ended
    return {
        "id": one.id,
        "action": one.action.value,
        "secret": one.secret,
        "state": requests.state(one).value,
        "by": one.actor.as_data(),
        "reason": one.reason,
        "at": one.at.isoformat(),
        "expires": requests.expires(one).isoformat(),
        "missing_approvals": requests.missing(one),
        "break_glass": one.breaks_glass,
        "approvals": [
            {"by": each.actor.as_data(), "reason": each.reason} for each in one.approvals
        ],
        "ended": None
        if ended is None
        else {"by": ended.actor.as_data(), "reason": ended.reason, **ended.data},
    }


def show_one(call: Invocation, requests: Requests, one: Request) -> None:
    """Show one request, and what happens next."""
    call.data["request"] = data(requests, one)
    call.print(f"Request {one.id}: {one.action.value} {one.secret}, {describe(requests, one)}.")
    if requests.state(one) is RequestState.NEEDS_APPROVAL:
        call.print(f"To approve it: rotator approve {one.id} --reason 'WHY'")
    elif requests.state(one) is RequestState.QUEUED:
        call.print(f"To see whether it is done: rotator requests {one.secret} --all")


def show(call: Invocation, requests: Requests, found: Sequence[Request]) -> None:
    """Show several requests."""
    call.data["requests"] = [data(requests, one) for one in found]
    if not found:
        call.print("No request is open.")
        return
    now = requests.clock.now()
    rows = [
        (
            one.id,
            one.action.value,
            cell(one.secret),
            cell(str(one.actor)),
            relative(one.at, now),
            describe(requests, one),
            cell(one.reason),
        )
        for one in found
    ]
    head = ("request", "action", "secret", "by", "when", "state", "reason")
    call.print(table(call.screen, head, rows))


def describe(requests: Requests, one: Request) -> str:
    """Return the state of a request in words."""
    state = requests.state(one)
    if state is RequestState.NEEDS_APPROVAL:
        return f"needs {plural(requests.missing(one), 'approval')}"
    if state in OPEN_STATES or one.ended is None:
        return state.value
    said = one.ended.reason or str(
        one.ended.data.get("what") or one.ended.data.get("outcome") or ""
    )
    return f"{state.value}: {said.rstrip('.')}" if said else state.value
