"""Runs the engine on several secrets at once and reports the results."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from rich.text import Text

from rotator.core.errors import RotatorError
from rotator.core.history import newest_step
from rotator.faces.cli import exit_codes
from rotator.faces.cli.held_hosts import HostAway, Hosts
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.pool import Crew, Done
from rotator.faces.cli.render import json_output, messages
from rotator.faces.cli.render.console import WARN, plural
from rotator.faces.cli.render.progress import Board

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.bootstrap import App
    from rotator.engine import ManagedSecret, Result

_SIGTERM: Final = 15


def drive(
    call: Invocation,
    pick: Callable[[App], list[str]],
    work: Callable[[App, ManagedSecret], Result | None],
    *,
    parallel: int = 1,
) -> None:
    """Call the engine for each secret that `pick` chooses; collect results, errors and codes."""
    results: list[json_output.Data] = []
    call.data |= {"results": results, "checkpoint": None}
    board = Board(call.screen, quiet=call.as_json)
    stop = threading.Event()
    with call.open_app(board.observe, stop.is_set) as app:
        names = pick(app)
        if not names:
            call.print("Nothing to do.")
            return
        hosts = Hosts(app)

        def rotate(name: str) -> Result | None:
            if hosts.holds_back(name):
                raise HostAway("its host is away.")
            return work(app, app.secret(name))

        crew: Crew[Result | None] = Crew(names, rotate, parallel, stop)
        board.total, board.listen = len(names), crew.observe
        told_of: set[str] = set()

        def stopping() -> None:
            call.warn(
                Text("Stopping after the steps that are under way; Ctrl-C again stops now.", WARN)
            )

        with board:
            for done in crew.run(stopping):
                if done.answer is not None and done.answer.stopped:
                    continue
                told_of.add(done.name)
                board.over(done.name)
                held_back = isinstance(done.error, HostAway)
                if held_back or hosts.met(done.name, done.error, done.answer):
                    code = exit_codes.STUCK
                    results.append(
                        {"secret": done.name, "exit_code": code, "outcome": None}
                        if done.answer is None
                        else json_output.of_result(done.answer, code)
                    )
                    continue
                _tell(call, app, done, board, results)
        hosts.remember()
        call.data["away"] = [
            {"host": host, "what": one.fault.what, "hint": one.fault.hint, "secrets": one.secrets}
            for host, one in hosts.away.items()
        ]
        for one in hosts.away.values():
            if one.secrets:
                _ = call.fail(one.error(), code=exit_codes.STUCK)
        if crew.signal is not None:
            call.abandoned = bool(crew.under_way)
            _tell_interrupted(call, app, [one for one in names if one not in told_of], crew.signal)
        if any(board.begun(name) for name in names):
            _checkpoint(call, app)
        if len(names) > 1:
            _sum_up(call, results, len(names))


def _tell(
    call: Invocation,
    app: App,
    done: Done[Result | None],
    board: Board,
    results: list[json_output.Data],
) -> None:
    """Show how one secret went, and add it to the answer."""
    if done.error is not None:
        code = call.fail(done.error, secret=done.name, begun=board.begun(done.name))
        results.append({"secret": done.name, "exit_code": code, "outcome": None})
        return
    result = done.answer
    if result is None:
        call.add_code(exit_codes.DONE)
        results.append({"secret": done.name, "exit_code": exit_codes.DONE, "outcome": None})
        call.print(Text.assemble((done.name, "bold"), ": no rotation is open."))
        return
    code = exit_codes.of_result(result, call.command)
    results.append(json_output.of_result(result, code))
    call.print(*messages.of_result(call.screen, result, call.command, app.clock.now()))
    if result.error is not None and code != exit_codes.DONE:
        call.add_error(result.error, code, secret=done.name)
    else:
        call.add_code(code)


def _tell_interrupted(call: Invocation, app: App, names: list[str], signum: int) -> None:
    """Say of each secret that was not finished in which state it is."""
    for name in names:
        opened = app.journal.open_rotation(name)
        if opened is None:
            error = exit_codes.Interrupted(
                "interrupted before anything was begun.", safety="Nothing was changed."
            )
        else:
            last = newest_step(app.journal.history(opened.id))
            step = last.step.value if last and last.step else "its beginning"
            error = exit_codes.Interrupted(
                f"interrupted at {step}: rotation {opened.id} is open.",
                safety="The new credential is published and logs in."
                if opened.published_at
                else "The backend still serves the credential that was there before.",
                hint=f"Finish it: rotator resume {name}",
            )
        error.secret = name
        call.fail(
            error, code=exit_codes.TERMINATED if signum == _SIGTERM else exit_codes.INTERRUPTED
        )
    if not names:
        call.add_code(exit_codes.TERMINATED if signum == _SIGTERM else exit_codes.INTERRUPTED)


def _checkpoint(call: Invocation, app: App) -> None:
    """Sign what was written, where a signing key is configured."""
    try:
        anchor = app.checkpoint()
    except RotatorError as error:
        error.safety = error.safety or "The rotations above are not touched by this."
        call.fail(error, code=exit_codes.STUCK)
        return
    if anchor is not None:
        call.data["checkpoint"] = {"number": anchor.number, "hash": anchor.hash}


def _sum_up(call: Invocation, results: list[json_output.Data], total: int) -> None:
    counts = {
        "done": exit_codes.DONE,
        "failed": exit_codes.FAILED,
        "refused as asked": exit_codes.MISUSE,
        "stuck or waiting": exit_codes.STUCK,
        "not due or locked": exit_codes.LATER,
    }
    found = [one["exit_code"] for one in results]
    parts = [f"{found.count(code)} {word}" for word, code in counts.items() if code in found]
    call.print(
        Text(f"{plural(total, 'secret')}: {', '.join(parts) or 'none finished'}.", style="bold")
    )
