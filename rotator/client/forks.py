"""What a forked process must do anew: it has none of its parent's threads, and may hold its locks."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable


def call_after_fork(method: Callable[[], None]) -> None:
    """Call the bound method in each forked child, as long as its object is alive."""
    known = weakref.WeakMethod(method)

    def call() -> None:
        if (alive := known()) is not None:
            alive()

    os.register_at_fork(after_in_child=call)
