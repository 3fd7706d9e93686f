"""The function's log: one JSON object a line, every text scrubbed.

Not structlog, which the other faces use: importing it takes longer than a step of a rotation.
"""

from __future__ import annotations

import json
import sys
from typing import Final

from rotator.core.errors import UsageError
from rotator.core.secret import MASK, Secret, scrub

_LEVELS: Final = ("debug", "info", "warning", "error")


class JsonLog:
    """Satisfies `Log`. Lambda itself adds the time and the request."""

    def __init__(self, least: str) -> None:
        """`least`: the lowest level that is written. Raises `UsageError` for none of them."""
        if least not in _LEVELS:
            raise UsageError(
                f"ROTATOR_LOG_LEVEL: {least!r} is no level.", hint=f"One of: {', '.join(_LEVELS)}."
            )
        self._least: int = _LEVELS.index(least)

    def debug(self, event: str, **facts: object) -> None:
        """Write what only a developer wants to read."""
        self._write("debug", event, facts)

    def info(self, event: str, **facts: object) -> None:
        """Write that something happened as it should."""
        self._write("info", event, facts)

    def warning(self, event: str, **facts: object) -> None:
        """Write what an operator should see in the morning."""
        self._write("warning", event, facts)

    def error(self, event: str, **facts: object) -> None:
        """Write what an operator should see now."""
        self._write("error", event, facts)

    def _write(self, level: str, event: str, facts: dict[str, object]) -> None:
        if _LEVELS.index(level) >= self._least:
            line({"level": level, "event": event, **facts})


def line(data: dict[str, object]) -> None:
    """Write one object as one line."""
    plain = {
        key: one if isinstance(one, (int, float, bool)) or one is None else _text(one)
        for key, one in data.items()
    }
    write(scrub(json.dumps(plain)))


def write(text: str) -> None:
    """Write one line, whole."""
    _ = sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _text(value: object) -> str:
    return MASK if isinstance(value, Secret) else scrub(str(value))
