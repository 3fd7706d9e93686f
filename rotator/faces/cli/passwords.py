"""Reads a password from a reference, standard input or a prompt."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING, Final

from rotator.core.errors import UsageError
from rotator.core.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable


PROMPT: Final = "prompt"
STDIN: Final = "-"


def ask_password(
    source: str, resolve: Callable[[str], Secret], question: str = "Password: "
) -> Secret:
    """Return the password that a reference names, or ask for it. Raises `UsageError`."""
    if source == STDIN:
        return _read_password()
    if source != PROMPT:
        return resolve(source)
    if not sys.stdin.isatty():
        raise UsageError(
            "there is no terminal to ask for the password on.",
            hint="Say where it is by --password-from: env:NAME, file:PATH, BACKEND:PATH#FIELD or -.",
            safety="Nothing was changed.",
        )

    return Secret(getpass.getpass(question))


def _read_password() -> Secret:
    """Return the first line of standard input."""
    found = Secret(sys.stdin.readline().rstrip("\r\n"))
    if not found.reveal():
        raise UsageError(
            "standard input holds no password.",
            hint="Write it there as one line, or say where it is: env:NAME or file:PATH.",
            safety="Nothing was changed.",
        )
    return found
