"""Lets the engine work on several secrets at once, shows its progress and tells what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from rotator.core.errors import RotatorError
from rotator.core.history import newest_step
from rotator.core.stopping import Stopped
from rotator.faces.cli import envelope, exits
from rotator.faces.cli.board import Board
from rotator.faces.cli.crew import Crew, Done
from rotator.faces.cli.hosts import HostAway, Hosts
from rotator.faces.cli.run import Run, show_traceback
from rotator.faces.cli.screen import WARN, plural
from rotator.faces.cli.words import told

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.bootstrap import App
    from rotator.engine import ManagedSecret, Result

_SIGTERM: Final = 15


def drive(
    run: Run,
    pick: Callable[[App], list[str]],
    call: Callable[[App, ManagedSecret], Result | None],
    *,
    parallel: int = 1,
) -> None:
    """Call the engine for each secret that `pick` chooses; collect results, errors and codes."""
    results: list[envelope.Data] = []
    run.data |= {"results": results, "checkpoint": None}
    board = Board(run.screen, quiet=run.as_json)
    with run.open_app(board.observe) as app:
        names = pick(app)
        if not names:
            run.say("Nothing to do.")
            return
        hosts = Hosts(app)

        def work(name: str) -> Result | None:
            if hosts.holds_back(name):
                raise HostAway("its host is away.")
            return call(app, app.secret(name))

        crew: Crew[Result | None] = Crew(names, work, parallel)
        board.total, board.listen = len(names), crew.observe
        told_of: set[str] = set()

        def stopping() -> None:
            run.note(
                Text("Stopping after the steps that are under way; Ctrl-C again stops now.", WARN)
            )

        with board:
            for done in crew.run(stopping):
                if isinstance(done.error, Stopped):
                    continue
                told_of.add(done.name)
                board.over(done.name)
                held_back = isinstance(done.error, HostAway)
                if held_back or hosts.met(done.name, done.error, done.answer):
                    code = exits.STUCK
                    results.append(
                        {"secret": done.name, "exit_code": code, "outcome": None}
                        if done.answer is None
                        else envelope.of_result(done.answer, code)
                    )
                    continue
                _tell(run, app, done, board, results)
        hosts.remember()
        run.data["away"] = [
            {"host": host, "what": one.fault.what, "hint": one.fault.hint, "secrets": one.secrets}
            for host, one in hosts.away.items()
        ]
        for one in hosts.away.values():
            if one.secrets:
                _ = run.fail(one.error(), code=exits.STUCK)
        if crew.signal is not None:
            run.abandoned = bool(crew.under_way)
            _tell_interrupted(run, app, [one for one in names if one not in told_of], crew.signal)
        if any(board.begun(name) for name in names):
            _checkpoint(run, app)
        if len(names) > 1:
            _sum_up(run, results, len(names))


def _tell(
    run: Run, app: App, done: Done[Result | None], board: Board, results: list[envelope.Data]
) -> None:
    """Show how one secret went, and add it to the answer."""
    if done.error is not None:
        code = run.fail(done.error, secret=done.name, begun=board.begun(done.name))
        if run.shared.debug:
            show_traceback(run, done.error)
        results.append({"secret": done.name, "exit_code": code, "outcome": None})
        return
    result = done.answer
    if result is None:
        run.ended(exits.DONE)
        results.append({"secret": done.name, "exit_code": exits.DONE, "outcome": None})
        run.say(Text.assemble((done.name, "bold"), ": no rotation is open."))
        return
    code = exits.of_result(result, run.command)
    results.append(envelope.of_result(result, code))
    run.say(*told(run.screen, result, run.command, app.clock.now()))
    if result.error is not None and code != exits.DONE:
        run.blame(result.error, code, secret=done.name)
    else:
        run.ended(code)


def _tell_interrupted(run: Run, app: App, names: list[str], signum: int) -> None:
    """Say of each secret that was not finished in which state it is."""
    for name in names:
        opened = app.journal.open_rotation(name)
        if opened is None:
            error = exits.Interrupted(
                "interrupted before anything was begun.", safety="Nothing was changed."
            )
        else:
            last = newest_step(app.journal.history(opened.id))
            step = last.step.value if last and last.step else "its beginning"
            error = exits.Interrupted(
                f"interrupted at {step}: rotation {opened.id} is open.",
                safety="The new credential is published and logs in."
                if opened.published_at
                else "The backend still serves the credential that was there before.",
                hint=f"Finish it: rotator resume {name}",
            )
        error.secret = name
        run.fail(error, code=exits.TERMINATED if signum == _SIGTERM else exits.INTERRUPTED)
    if not names:
        run.ended(exits.TERMINATED if signum == _SIGTERM else exits.INTERRUPTED)


def _checkpoint(run: Run, app: App) -> None:
    """Sign what was written, where a signing key is configured."""
    try:
        anchor = app.checkpoint()
    except RotatorError as error:
        error.safety = error.safety or "The rotations above are not touched by this."
        run.fail(error, code=exits.STUCK)
        return
    if anchor is not None:
        run.data["checkpoint"] = {"number": anchor.number, "hash": anchor.hash}


def _sum_up(run: Run, results: list[envelope.Data], total: int) -> None:
    counts = {
        "done": exits.DONE,
        "failed": exits.FAILED,
        "refused as asked": exits.MISUSE,
        "stuck or waiting": exits.STUCK,
        "not due or locked": exits.LATER,
    }
    found = [one["exit_code"] for one in results]
    parts = [f"{found.count(code)} {word}" for word, code in counts.items() if code in found]
    run.say(
        Text(f"{plural(total, 'secret')}: {', '.join(parts) or 'none finished'}.", style="bold")
    )
