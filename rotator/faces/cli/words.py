"""How the outcome of a rotation is told to a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from rotator.core.model import Outcome
from rotator.faces.cli import exits
from rotator.faces.cli.screen import at, indented, relative

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import RenderableType

    from rotator.engine import Result
    from rotator.faces.cli.screen import Screen

_ENDS: Final = {
    Outcome.DONE: "rotated.",
    Outcome.ROLLED_BACK: "rolled back.",
    Outcome.UNDONE: "not rotated, and everything it had begun is undone.",
    Outcome.PARKED: "stuck, and parked until a person has looked.",
}


def told(screen: Screen, result: Result, command: str, now: datetime) -> list[RenderableType]:
    """Return what happened, whether the application is safe, and what comes next."""
    code = exits.of_result(result, command)
    sign = screen.sign({exits.DONE: "good", exits.STUCK: "warn"}.get(code, "bad"))
    name = Text(f" {result.secret}: ", style="bold")
    lines: list[RenderableType] = [Text.assemble(sign, name, _headline(result))]
    lines += [indented(Text(line)) for line in _details(result, now)]
    error = result.error
    if error is not None and (code != exits.DONE or exits.failing(result)):
        what = f"step {error.step}: {error.what}" if error.step else error.what
        lines.append(indented(Text(what)))
        lines += [indented(Text(error.safety))] if error.safety else []
    following = _next(result, command)
    if following:
        lines.append(indented(Text.assemble(("Next: ", "bold"), following)))
    return lines


def _headline(result: Result) -> str:
    again = "the interrupted rotation is finished: " if result.resumed else ""
    if result.outcome is not None:
        return again + _ENDS[result.outcome]
    if exits.failing(result):
        return "a step failed, and is tried again later."
    if result.published:
        return f"published; {result.waiting or 'not over yet'}."
    return f"begun, and not over: {result.waiting or 'it was interrupted'}."


def _details(result: Result, now: datetime) -> list[str]:
    lines: list[str] = []
    new, old = result.login, result.old_login
    if result.published and result.outcome is not Outcome.ROLLED_BACK and new:
        lines.append(f"New login {new}, served as version {result.version}.")
    if result.outcome is Outcome.ROLLED_BACK and old:
        lines.append(f"Login {old} is the current one again.")
    if result.outcome in (Outcome.DONE, Outcome.ROLLED_BACK):
        gone = new if result.outcome is Outcome.ROLLED_BACK else old
        if gone:
            lines.append(_proof(gone, new, refused=result.old_refused))
    elif result.outcome is None and result.published and old:
        until = f" until {at(result.until)} ({relative(result.until, now)})"
        lines.append(
            f"Both are valid{until if result.until else ''}: {old} is revoked after that."
            if old != new
            else f"It goes on{until if result.until else ''}."
        )
    return lines


def _proof(gone: str, new: str | None, *, refused: bool | None) -> str:
    which = f"The old password of {gone}" if gone == new else f"The old login {gone}"
    if refused:
        return f"{which} is proven dead: a login with it was tried and refused."
    return f"{which} is revoked; that it is refused could not be tried, its password is not known."


def _next(result: Result, command: str) -> str:
    name, error = result.secret, result.error
    if result.parked or result.outcome is Outcome.PARKED:
        hint = f"{error.hint} " if error is not None and error.hint else ""
        return f"{hint}Then: rotator unpark {name} --reason WHY && rotator resume {name}"
    if result.outcome is Outcome.UNDONE and command != "rollback":
        return error.hint if error is not None and error.hint else f"rotator history {name}"
    if result.outcome is not None:
        return ""
    if exits.failing(result) or not result.published:
        return f"rotator resume {name}"
    if command == "revoke":
        return (
            f"wait and run rotator resume {name}, or end the sessions: "
            f"rotator revoke {name} --terminate"
        )
    return f"rotator resume {name} when that is over, or rotator revoke {name} to end it now"
