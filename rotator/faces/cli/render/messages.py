"""Messages for operators: results of rotations, errors and findings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from rotator.core.commands import unpark_command
from rotator.core.model import Outcome, Step
from rotator.faces.cli import exit_codes
from rotator.faces.cli.render.console import BAD, QUIET, further, indented
from rotator.faces.wording import at, plural, relative

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from rich.console import RenderableType

    from rotator.core.model import Finding
    from rotator.engine import Result
    from rotator.faces.cli.render import json_output
    from rotator.faces.cli.render.console import Screen

_SIGNS: Final = {"ok": "good", "warning": "warn", "error": "bad"}
_ENDS: Final = {
    Outcome.DONE: "rotated.",
    Outcome.ROLLED_BACK: "rolled back.",
    Outcome.UNDONE: "not rotated; all changes are undone.",
    Outcome.PARKED: "stuck, and parked until an operator acts.",
}
# How often one mistake is shown that many entries of the configuration have.
_SHOWN: Final = 3
# After one of these steps the rotation waits for the grace period.
_PIVOTS: Final = (Step.PUBLISH, Step.RESTORE)


def of_result(screen: Screen, result: Result, command: str, now: datetime) -> list[RenderableType]:
    """Return what happened, whether the application is safe, and what comes next."""
    back = result.rolling_back
    code = exit_codes.of_result(result, command)
    sign = screen.sign({exit_codes.DONE: "good", exit_codes.STUCK: "warn"}.get(code, "bad"))
    name = Text(f" {result.secret}: ", style="bold")
    lines: list[RenderableType] = [Text.assemble(sign, name, _headline(result, command, back=back))]
    lines += [indented(Text(line)) for line in _details(result, now, back=back)]
    error = result.error
    if error is not None and (code != exit_codes.DONE or exit_codes.failing(result)):
        what = f"step {error.step}: {error.what}" if error.step else error.what
        lines.append(indented(Text(further(what))))
        lines += [indented(Text(error.safety))] if error.safety else []
    following = _next(result, command)
    if following:
        lines.append(indented(Text.assemble(("Next: ", "bold"), following)))
    return lines


def _headline(result: Result, command: str, *, back: bool) -> str:
    again = (
        "the interrupted rotation is completed: " if result.resumed and command == "rotate" else ""
    )
    if result.outcome is not None:
        return again + _ENDS[result.outcome]
    if exit_codes.failing(result):
        return "a step failed and will be retried."
    if result.published and back:
        return "rolled back."
    if result.published:
        return f"rotated; {result.waiting or 'not completed yet'}."
    return f"started and not completed: {result.waiting or 'it was interrupted'}."


def _details(result: Result, now: datetime, *, back: bool) -> list[str]:
    new, old = result.login, result.old_login
    if not result.published or new is None:
        return []
    if result.by:
        served = f"Login {new}, served as version {result.version}, is valid."
        if result.old_refused:
            which = f"the old password of {old}" if old == new else f"login {old}"
            return [served, _proof(which, refused=True), f"{result.by} rotates this secret."]
        return [
            served,
            f"{result.by} rotates this secret, and decides when the old one is revoked.",
        ]
    gone, kept = (new, old) if back else (old, new)
    lines = [
        f"Login {kept} is the current one again."
        if back
        else f"New login {kept}, served as version {result.version}."
    ]
    if gone is None:
        return lines
    age = "newer" if back else "old"
    which = f"the {age} password of {gone}" if gone == kept else f"login {gone}"
    if result.outcome is not None:
        lines.append(_proof(which, refused=result.old_refused, untried=result.untried))
    elif result.until is not None:
        until = f"{at(result.until)} ({relative(result.until, now)})"
        lines.append(
            f"{_capital(which)} stays valid until {until}, then it is revoked."
            if result.step in _PIVOTS
            else f"{_capital(which)} is not revoked yet; next check after {until}."
        )
    return lines


def _proof(which: str, *, refused: bool | None, untried: str = "") -> str:
    which = _capital(which)
    if refused:
        return f"{which} is revoked: a login attempt with it was rejected."
    return f"{which} is revoked, but not tested: {untried or 'its password is not known'}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _next(result: Result, command: str) -> str:
    name, error = result.secret, result.error
    if result.parked or result.outcome is Outcome.PARKED:
        verb = "rotate" if result.outcome is Outcome.UNDONE else "resume"
        again = f"{unpark_command(name)} && rotator {verb} {name}"
        hint = error.hint if error is not None else ""
        # The hint of a parked secret names the first of them already.
        return hint if again in hint else f"{hint} Then: {again}" if hint else again
    if result.outcome is Outcome.UNDONE and command != "rollback":
        return error.hint if error is not None and error.hint else f"rotator history {name}"
    if result.outcome is not None:
        return ""
    if result.by and not exit_codes.failing(result):
        return f"rotator resume {name} to check again"
    if exit_codes.failing(result) or not result.published:
        return f"rotator resume {name}"
    if command == "revoke":
        return (
            f"wait and run rotator resume {name}, or end the sessions with "
            f"rotator revoke {name} --terminate"
        )
    return f"rotator resume {name} after that, or rotator revoke {name} to end it now"


def of_faults(
    screen: Screen, found: Sequence[json_output.Fault], count: int | None = None
) -> list[RenderableType]:
    """Return errors as text: what happened, whether the application is safe, what to do next.

    `count`: how many there are in all, where `found` has the first of them.
    """
    if found and found[0].kind == "config":
        return _of_problems(screen, found, len(found) if count is None else count)
    lines: list[RenderableType] = []
    for one in found:
        where = ", ".join(part for part in (one.secret, one.step and f"step {one.step}") if part)
        head = Text.assemble(screen.sign("bad"), " ", (f"{where}: " if where else "", "bold"))
        lines.append(Text.assemble(head, further(one.what)))
        lines += [indented(Text(one.safety))] if one.safety else []
        lines += [indented(Text.assemble(("Next: ", "bold"), one.hint))] if one.hint else []
    return lines


def _of_problems(
    screen: Screen, found: Sequence[json_output.Fault], count: int
) -> list[RenderableType]:
    """Return what is wrong with a configuration. The same mistake in many entries is shown three times."""
    alike: dict[tuple[str, str, str], list[json_output.Fault]] = {}
    for one in found:
        alike.setdefault((one.what, one.hint, _without_name(one.key or "")), []).append(one)
    head = f"the configuration is invalid: {plural(count, 'problem')}."
    lines: list[RenderableType] = [Text.assemble(screen.sign("bad"), " ", (head, BAD))]
    for same in alike.values():
        for one in same[:_SHOWN]:
            place = f"{one.file}:{one.line}" if one.line else str(one.file)
            text = Text.assemble((place, "bold"), f"  {one.key}: " if one.key else "  ", one.what)
            lines.append(indented(text))
        if len(same) > _SHOWN:
            rest, last = len(same) - _SHOWN, same[-1]
            lines.append(indented(Text(f"and {rest} more like it, up to {last.file}:{last.line}")))
        lines += [indented(Text(same[0].hint, style=QUIET), 4)] if same[0].hint else []
    if count > len(found):
        rest = plural(count - len(found), "further problem")
        lines.append(indented(Text(f"{rest} not shown.")))
    lines.append(indented(Text("Nothing was changed.")))
    return lines


def _without_name(key: str) -> str:
    """Return the key with a gap for the entry's name, which may hold dots: `secrets.….backend`."""
    section, _, rest = key.partition(".")
    return f"{section}.….{rest.rpartition('.')[2]}" if "." in rest else key


def of_findings(screen: Screen, found: Iterable[Finding]) -> Iterable[RenderableType]:
    """Return findings as text."""
    for one in found:
        sign = screen.sign(_SIGNS[one.severity.value])
        yield Text.assemble(sign, " ", (f"{one.subject}: ", "bold"), one.message)
        if one.remedy:
            yield indented(Text.assemble(("Next: ", "bold"), one.remedy))
