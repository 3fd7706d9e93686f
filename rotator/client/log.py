"""The client's log, `rotator.client`. It is opened at its first line, which saves every import its cost."""

from __future__ import annotations


def warn(text: str, *arguments: object) -> None:
    """Log a warning. No argument may hold a secret."""
    import logging  # noqa: PLC0415 # a third of this package's import time

    logging.getLogger("rotator.client").warning(text, *arguments)
