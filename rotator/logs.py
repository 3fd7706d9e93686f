"""Logs: on standard error, for a person on a terminal and as JSON lines elsewhere.

Every text is scrubbed of every living secret, the second line of defence: none should be there to
begin with. Tracebacks never show locals. A log that cannot be written disturbs nobody's rotation.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

import structlog

from rotator.core.printable import printable
from rotator.core.secret import MASK, Secret, scrub

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from types import TracebackType

    from structlog.typing import EventDict, ExcInfo, Processor

    from rotator.core.ports import Log

LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "off": logging.CRITICAL,
}
# Libraries say a lot at INFO, and some of it are statements.
_LIBRARIES: Final = logging.WARNING
_DEEPEST: Final = 8


def set_up(*, level: str = "info", human: bool | None = None) -> None:
    """Say what is logged from now on, and how.

    `level` is one of `LEVELS`. `human`: lines for people rather than JSON; None asks whether
    standard error is a terminal.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        _exceptions,
        _scrubbed,
    ]
    for_people = sys.stderr.isatty() if human is None else human
    if for_people:
        # JSON escapes them itself.
        shared.append(_printables)
    render = _renderer(human=for_people)
    structlog.configure(
        processors=[*shared, render, _scrubbed_line],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=_ErrorStream,
        cache_logger_on_first_use=False,
    )
    _route_libraries(shared, render, max(LEVELS[level], _LIBRARIES))


def get_log() -> Log:
    """Return the log that everything else is given."""
    return cast("Log", structlog.get_logger())


def plain_traceback(error: BaseException) -> str:
    """Return a traceback without locals, scrubbed."""
    return scrub("".join(traceback.format_exception(error)).rstrip())


class _ErrorStream:
    """Writes whole lines to whatever standard error is at that moment."""

    _lock: threading.Lock = threading.Lock()

    def __init__(self, *_: object) -> None:
        pass

    def msg(self, line: str) -> None:
        # A full disk or a closed pipe behind the log must not stop a rotation between two steps.
        with self._lock, contextlib.suppress(OSError, ValueError):
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    debug = info = warning = error = critical = exception = log = msg


class _LineHandler(logging.Handler):
    """Passes what libraries log on to the same stream."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        # `logging` itself would print the record and its arguments, unscrubbed.
        with contextlib.suppress(ValueError, TypeError):
            _ErrorStream().msg(scrub(self.format(record)))


def _renderer(*, human: bool) -> Processor:
    if not human:
        return structlog.processors.JSONRenderer(sort_keys=False)
    colors = (
        sys.stderr.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    )
    return structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=12)


def _route_libraries(shared: list[Processor], render: Processor, level: int) -> None:
    handler = _LineHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one, _LineHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    # SQLAlchemy echoes statements with their parameters when somebody has turned that on.
    for name in ("sqlalchemy", "alembic", "psycopg.pool", "urllib3"):
        logging.getLogger(name).setLevel(level)


def _printables(_: object, __: str, event: EventDict) -> EventDict:
    """Escape what a terminal would obey; only a traceback has lines."""
    return {
        key: printable(value, lines=key == "exception") if isinstance(value, str) else value
        for key, value in event.items()
    }


def _exceptions(_: object, __: str, event: EventDict) -> EventDict:
    """Turn an exception into a text without locals."""
    given = cast(
        "bool | BaseException | ExcInfo | tuple[None, None, None] | None",
        event.pop("exc_info", None),
    )
    error: BaseException | None = None
    if isinstance(given, BaseException):
        error = given
    elif isinstance(given, tuple):
        error = given[1]
    elif given:
        error = _current()[1]
    if error is not None:
        event["exception"] = plain_traceback(error)
    return event


def _current() -> (
    tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
):
    return sys.exc_info()


def _scrubbed(_: object, __: str, event: EventDict) -> MutableMapping[str, Any]:
    """Scrub every value, before a renderer escapes what is in it."""
    return {
        key: value if key.startswith("_") else _plain(value, _DEEPEST)
        for key, value in event.items()
    }


def _plain(value: object, depth: int) -> object:
    """Return the value as texts, numbers, lists and mappings, scrubbed."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes | bytearray):
        # As Python shows bytes, a quote in a secret would be escaped and not be recognised.
        value = value.decode(errors="replace")
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, Secret) or depth == 0:
        return MASK
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {scrub(str(key)): _plain(one, depth - 1) for key, one in items}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one, depth - 1) for one in cast("list[object]", value)]
    return scrub(str(value))


def _scrubbed_line(_: object, __: str, line: Any) -> str:
    return scrub(str(line))
