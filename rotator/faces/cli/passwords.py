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
    source: str,
    resolve: Callable[[str], Secret],
    question: str = "Password: ",
    *,
    option: str = "--password-from",
) -> Secret:
    """Return the password from a reference, standard input or a prompt. Raises `UsageError`.

    `option`: the one that names the source.
    """
    if source == STDIN:
        return _read_password()
    if source != PROMPT:
        return resolve(source)
    if not sys.stdin.isatty():
        raise UsageError(
            "there is no terminal to prompt for the password.",
            hint=f"Give its source with {option}: env:NAME, file:PATH, BACKEND:PATH#FIELD or -.",
            safety="Nothing was changed.",
        )

    return Secret(getpass.getpass(question))


def _read_password() -> Secret:
    """Return the first line of standard input."""
    found = Secret(sys.stdin.readline().rstrip("\r\n"))
    if not found.reveal():
        raise UsageError(
            "standard input holds no password.",
            hint="Write it to standard input as one line, or give its source: env:NAME or file:PATH.",
            safety="Nothing was changed.",
        )
    return found
