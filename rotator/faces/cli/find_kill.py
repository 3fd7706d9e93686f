"""find --kill: an incident for each managed secret whose password was found and is valid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotator.core.printable import printable
from rotator.engine import Mode
from rotator.faces.cli.leaks import Report, by_value_of, open_incident

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rotator.bootstrap import App
    from rotator.faces.cli.invocation import Invocation
    from rotator.find.model import Candidate


def kill(call: Invocation, candidates: Sequence[Candidate]) -> None:
    """Make the passwords of these candidates invalid, replace them, and try them until they are rejected."""
    if not candidates:
        call.print("No incident was opened: nothing is valid.")
        return
    first = candidates[0]
    more = f" and {len(candidates) - 1} more" if len(candidates) > 1 else ""
    reason = f"found in {printable(first.without_value(first.place))}{more}"
    values = [one.match.value for one in candidates]

    def pick(opened: App) -> dict[str, str | None]:
        return by_value_of(call, opened, list(opened.settings.secrets), values)

    open_incident(call, pick, Report(reason=reason, mode=Mode.KILL), timeout=None, parallel=8)
