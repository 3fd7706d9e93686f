"""The output of `rotator history`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from rotator.core.model import Kind
from rotator.faces.cli.render.console import indented, table
from rotator.faces.histories import remark
from rotator.faces.wording import answerable, at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotator.core.history import RotationRecord
    from rotator.core.model import Event
    from rotator.faces.cli.invocation import Invocation
    from rotator.faces.histories import History


def show(call: Invocation, history: History) -> None:
    """Print a history, newest last."""
    if named := answerable(history.owner, history.basis):
        call.print(f"{history.name}: {named}")
    if not history.rotations and not history.led:
        call.print(f"{history.name} has never been rotated.")
    if history.led:
        _show_led(call, history.led)
    if history.beside:
        call.print(Text(f"{history.name}, outside of rotations", style="bold"))
        rows = [(at(one.at, seconds=True), one.kind.value, remark(one)) for one in history.beside]
        call.print(indented(table(call.screen, ("when", "what", ""), rows)), "")
    for one in reversed(history.rotations):
        _show_rotation(call, one, history.events[one.id])


def _show_rotation(call: Invocation, one: RotationRecord, events: list[Event]) -> None:
    outcome = one.outcome.value if one.outcome else "published" if one.published_at else "open"
    head = Text.assemble((one.id, "bold"), f"  {outcome}, {one.strategy}, by {one.actor}")
    call.print(head)
    reason = f", reason: {one.reason}" if one.reason else ""
    logins = f"{one.old_login or 'no login'} to {one.new_login or '?'}"
    call.print(indented(Text(f"from {logins}{reason}")))
    rows = [
        (
            at(event.at, seconds=True),
            event.step.value if event.step else "",
            event.kind.value,
            _took(event),
            remark(event),
        )
        for event in events
        if event.kind is not Kind.STARTED
    ]
    call.print(indented(table(call.screen, ("when", "step", "what", "took", ""), rows)), "")


def _show_led(call: Invocation, events: Sequence[Event]) -> None:
    """Print the requests to another system, and their outcomes."""
    call.print(Text("Rotated by another system, on request or on its own schedule", style="bold"))
    rows = [(at(one.at, seconds=True), _led_word(one), _led_remark(one)) for one in events]
    call.print(indented(table(call.screen, ("when", "what", ""), rows)), "")


def _led_word(event: Event) -> str:
    if event.kind is Kind.FOLLOWED:
        return "noticed" if event.data.get("noticed") else "proven"
    return "asked" if event.kind is Kind.DELEGATED else event.kind.value


def _led_remark(event: Event) -> str:
    found = event.data
    if event.kind is not Kind.FOLLOWED:
        return str(found.get("what") or found.get("reason") or "")
    served = f"login {found.get('login')} authenticated, version {found.get('version')}"
    seen = {True: "the old credential was rejected", False: "the old credential is still valid"}
    refused = found.get("old_refused")
    return ", ".join([served, seen[refused]] if isinstance(refused, bool) else [served])


def _took(event: Event) -> str:
    seconds = event.data.get("seconds")
    return f"{seconds:.3f} s" if isinstance(seconds, int | float) else ""
