"""Runs the engine on several secrets at once and reports the results."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from rich.text import Text

from rotator.core.errors import RotatorError
from rotator.core.history import newest_step
from rotator.faces import answers
from rotator.faces.cli import exit_codes
from rotator.faces.cli.held_hosts import HeldHosts, HostAway
from rotator.faces.cli.invocation import Invocation
from rotator.faces.cli.pool import Done, Pool
from rotator.faces.cli.render import json_output, messages
from rotator.faces.cli.render.console import WARN
from rotator.faces.cli.render.progress import Progress
from rotator.faces.wording import plural

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
    """Call `work` for each secret that `pick` selects; collect results, errors and exit codes."""
    results: list[answers.Data] = []
    call.data |= {"results": results, "checkpoint": None}
    progress = Progress(call.screen, quiet=call.as_json)
    stop = threading.Event()
    with call.open_app(progress.observe, stop.is_set) as app:
        names = pick(app)
        if not names:
            call.print("Nothing to do.")
            return
        hosts = HeldHosts(app)

        def rotate(name: str) -> Result | None:
            if hosts.holds_back(name):
                raise HostAway("its host is unavailable.")
            return work(app, app.secret(name))

        pool: Pool[Result | None] = Pool(names, rotate, parallel, stop)
        progress.total, progress.listen = len(names), pool.observe
        reported: set[str] = set()

        with progress:
            for done in pool.run(lambda: warn_of_stop(call)):
                if done.answer is not None and done.answer.stopped:
                    continue
                reported.add(done.name)
                progress.over(done.name)
                held_back = isinstance(done.error, HostAway)
                if held_back or hosts.met(done.name, done.error, done.answer):
                    code = exit_codes.STUCK
                    results.append(
                        {"secret": done.name, "exit_code": code, "outcome": None}
                        if done.answer is None
                        else json_output.of_result(done.answer, code)
                    )
                    continue
                _report(call, app, done, progress, results)
        hosts.remember()
        call.data["away"] = [
            {
                "host": host,
                "what": held.fault.what,
                "hint": held.fault.hint,
                "secrets": held.secrets,
            }
            for host, held in hosts.away.items()
        ]
        for held in hosts.away.values():
            if held.secrets:
                _ = call.fail(held.error(), code=exit_codes.STUCK)
        if pool.signal is not None:
            call.abandoned = bool(pool.under_way)
            _report_interrupted(
                call, app, [name for name in names if name not in reported], pool.signal
            )
        if any(progress.begun(name) for name in names):
            sign_new_entries(call, app)
        if len(names) > 1:
            _sum_up(call, results, len(names))


def warn_of_stop(call: Invocation) -> None:
    """Print that a first Ctrl-C lets the current steps end."""
    call.warn(Text("Stopping after the current steps. Press Ctrl-C again to stop now.", WARN))


def _report(
    call: Invocation,
    app: App,
    done: Done[Result | None],
    progress: Progress,
    results: list[answers.Data],
) -> None:
    """Print the result of one secret, and add it to the answer."""
    if done.error is not None:
        code = call.fail(done.error, secret=done.name, begun=progress.begun(done.name))
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


def _report_interrupted(call: Invocation, app: App, names: list[str], signum: int) -> None:
    """Report the state of each unfinished secret."""
    for name in names:
        opened = app.journal.open_rotation(name)
        if opened is None:
            error = exit_codes.Interrupted(
                "interrupted before the rotation started.", safety="Nothing was changed."
            )
        else:
            last = newest_step(app.journal.history(opened.id))
            step = last.step.value if last and last.step else "the start"
            error = exit_codes.Interrupted(
                f"interrupted at {step}: rotation {opened.id} is open.",
                safety="The new credential is published and valid."
                if opened.published_at
                else "The backend still serves the previous credential.",
                hint=f"Complete it: rotator resume {name}",
            )
        error.secret = name
        call.fail(
            error, code=exit_codes.TERMINATED if signum == _SIGTERM else exit_codes.INTERRUPTED
        )
    if not names:
        call.add_code(exit_codes.TERMINATED if signum == _SIGTERM else exit_codes.INTERRUPTED)


def sign_new_entries(
    call: Invocation, app: App, safety: str = "The rotations above are not affected."
) -> None:
    """Sign the new journal entries if a signing key is configured."""
    try:
        anchor = app.checkpoint()
    except RotatorError as error:
        error.safety = error.safety or safety
        call.fail(error, code=exit_codes.STUCK)
        return
    if anchor is not None:
        call.data["checkpoint"] = {"number": anchor.number, "hash": anchor.hash}


def _sum_up(call: Invocation, results: list[answers.Data], total: int) -> None:
    counts = {
        "done": exit_codes.DONE,
        "failed": exit_codes.FAILED,
        "rejected": exit_codes.MISUSE,
        "stuck or waiting": exit_codes.STUCK,
        "not due or locked": exit_codes.LATER,
    }
    codes = [result["exit_code"] for result in results]
    parts = [f"{codes.count(code)} {word}" for word, code in counts.items() if code in codes]
    call.print(
        Text(f"{plural(total, 'secret')}: {', '.join(parts) or 'none finished'}.", style="bold")
    )
