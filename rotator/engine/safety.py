"""Whether the application can still log in: 'safe' and 'NOT safe' only where that was just seen.

Elsewhere these sentences say what was and what was not changed. Pure functions over a history.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rotator.core.history import text
from rotator.core.model import Kind, Step
from rotator.core.state_machine import Direction, progress

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from rotator.core.model import Event

NOT_SAFE: Final = "The application is NOT safe: the target rejects the credential that is served."
SAFE: Final = "The application is safe: the credential that is served authenticated just now."
_DELEGATED: Final = (
    "It could not be checked whether the target accepts the credential that is served."
)
# A login that was tried within this time was tried just now.
JUST_NOW: Final = timedelta(minutes=1)


def after_failure(history: Sequence[Event], step: Step, now: datetime) -> str:
    """Return what a failure of `step` means for the application."""
    state = progress(history)
    if state.delegated:
        # Where it can be seen whether what is served logs in, the step has said so.
        return _DELEGATED if Step.REQUEST in state.begun else "Nothing was changed on the target."
    if state.direction is Direction.ROLLBACK:
        return (
            "The former credential is served again; the newer one may be revoked already."
            if step is Step.REVOKE
            else "Neither the old nor the new credential was revoked."
        )
    if state.published:
        return _published(history, step, now, overlaps=state.overlaps)
    if not state.has_old:
        return "No credential was published before, so no application uses one."
    if Step.CREATE not in state.begun:
        return "Nothing was changed on the target."
    unclear = step is Step.PUBLISH and not state.can_turn_back
    if state.overlaps:
        changed = "The current credential was not changed on the target"
        return f"{changed}, and the new one is valid beside it." if unclear else f"{changed}."
    if step is Step.DISCARD:
        return after_undo(history)
    return (
        "Look at once: the password was changed in place, and it is not known whether the new one is served."
        if unclear
        else "Look at once: the password was being changed in place, so the served one may be invalid."
    )


def after_undo(history: Sequence[Event]) -> str:
    """Return what the login that was tried after everything was undone has shown."""
    undone = [
        event
        for event in history
        if event.kind is Kind.FINISHED
        and event.step in (Step.WITHDRAW, Step.DISCARD)
        and "current_accepted" in event.data
    ]
    accepted = undone[-1].data.get("current_accepted") if undone else None
    if accepted is False:
        return NOT_SAFE
    made = any(event.kind is Kind.FINISHED and event.step is Step.CREATE for event in history)
    state = progress(history)
    if accepted is True:
        withdrawn = f" {_new(history)} was withdrawn." if made else ""
        return f"The application is safe: its current credential authenticated just now.{withdrawn}"
    if state.cause is not None and state.cause.data.get("stated"):
        return text(state.cause.data, "safety") or ""
    if not state.has_old:
        return "No credential was published before, so no application uses one."
    if Step.CREATE not in state.begun:
        return "Nothing was changed on the target."
    if state.overlaps:
        return "The current credential was not changed on the target."
    return "The old password was set again; it was not tried afterwards."


def _published(history: Sequence[Event], step: Step, now: datetime, *, overlaps: bool) -> str:
    if step is Step.COPY:
        return (
            "The old credential stays valid while a copy holds it."
            if overlaps
            else "Applications that read the copy are NOT safe: it may still hold the old password."
        )
    old = (
        "the old one may be revoked already"
        if step is Step.REVOKE
        else "the old one is not revoked yet"
    )
    seen = [one.at for one in history if one.kind is Kind.FINISHED and one.step is Step.VERIFY]
    if seen and now - seen[-1] <= JUST_NOW:
        return f"The application is safe: the new credential is published and authenticated just now; {old}."
    when = f" (it authenticated at {seen[-1]:%Y-%m-%d %H:%M} UTC)" if seen else ""
    return f"The new credential is published{when}; {old}."


def _new(history: Sequence[Event]) -> str:
    login = next(
        (
            text(one.data, "login")
            for one in history
            if one.kind is Kind.FINISHED
            and one.step in (Step.STAGE, Step.CREATE)
            and "login" in one.data
        ),
        None,
    )
    old = text(history[0].data, "old_login") if history else None
    return "The new password" if login == old else f"The new login {login!r}"
