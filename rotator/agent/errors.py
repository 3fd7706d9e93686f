"""What can go wrong at a sink."""

from __future__ import annotations

from rotator.core.errors import RotatorError


class SinkError(RotatorError):
    """A sink of `rotator agent` or a file of `rotator exec` failed; what it held before is whole."""

    kind = "sink"


class SinkWaits(SinkError):
    """A sink is not up to date yet, and nothing is wrong. `pause`: seconds until the next look."""

    def __init__(self, what: str, *, pause: float, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.pause: float = pause
