"""How work is ended between two steps."""

from __future__ import annotations


class Stopped(BaseException):
    """Raised by an observer after a step is in the journal, when whoever runs the work must leave.

    Not an error: no plugin, backend or engine may take it for one.
    """
