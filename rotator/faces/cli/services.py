"""Runs the daemon or a worker from the command line."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rotator.core.errors import UsageError
from rotator.faces.cli.invocation import Invocation
from rotator.faces.wording import at, plural, relative

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rotator.faces.service import Begun, Service


@contextmanager
def require_packages(extra: str) -> Generator[None]:
    """Report a missing package with the extra that installs it."""
    try:
        yield
    except ImportError as error:
        raise UsageError(
            f"a required package is not installed: {error.name}.",
            hint=f"pip install 'credential-rotator[{extra}]'",
        ) from error


def serve(call: Invocation, service: Service) -> None:
    """Run a service until it is stopped."""
    code = service.run()
    call.add_code(code)
    if call.screen.out.is_terminal:
        call.print(f"rotator {call.command}: stopped; every started step is finished.")


def describe_start(call: Invocation) -> Callable[[Begun], None] | None:
    """Return a function that prints the start on a terminal; None where the log reports it."""
    if call.as_json or not call.screen.out.is_terminal:
        return None

    def report(begun: Begun) -> None:
        call.print(f"rotator {call.command}: {describe(begun, datetime.now(UTC))} Ctrl-C stops it.")

    return report


def describe(begun: Begun, now: datetime) -> str:
    """Return what a started process works with, on one line."""
    backends = ", ".join(begun.backends)
    noun = "backend" if len(begun.backends) == 1 else "backends"
    metrics = f"metrics at http://{begun.address}/metrics" if begun.address else "no metrics"
    following = "no secret has a due date"
    if begun.soonest is not None and (due := begun.soonest.next_due) is not None:
        following = f"next due: {begun.soonest.name}, {at(due)} ({relative(due, now)})"
    config = f"{begun.config}, {plural(begun.secrets, 'secret')}, {noun} {backends}"
    return f"{config}; {metrics}; {following}."
