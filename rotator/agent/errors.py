"""What can go wrong at a sink."""

from __future__ import annotations

from rotator.core.errors import RotatorError


class SinkError(RotatorError):
    """A file, a reload or a check of `rotator agent` or `rotator exec` failed; the old file is whole."""

    kind = "sink"
