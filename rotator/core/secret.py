"""A value that must not be seen: it leaves its wrapper through `reveal()` and nowhere else."""

from __future__ import annotations

import hmac
import weakref
from typing import Final, NoReturn, final

MASK: Final = "***"

# Shorter values (an empty test password, "a") would shred every text they are scrubbed from.
_SHORTEST_SCRUBBED: Final = 6

# Every wrapper that is alive, so that `scrub` knows what to look for without keeping one alive.
_living: weakref.WeakSet[Secret] = weakref.WeakSet()


@final
class Secret:
    """A secret text, such as a password.

    It shows `***` when printed, formatted or logged; it refuses to be pickled, written as JSON,
    iterated or ordered; two secrets are compared in constant time and never equal a plain string.
    """

    __slots__ = ("__weakref__", "_value")

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance] # callers may be untyped
            msg = f"a Secret wraps a str, not {type(value).__name__}"
            raise TypeError(msg)
        self._value = value
        _living.add(self)

    def reveal(self) -> str:
        """Return the secret text. The line that calls this is the line that sends it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return MASK

    def __format__(self, format_spec: str) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return False
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    # Identity, not content: a hash of the content would be a fingerprint of the secret.
    def __hash__(self) -> int:
        return id(self)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        msg = "a Secret cannot be pickled"
        raise TypeError(msg)


def scrub(text: str) -> str:
    """Return `text` with the value of every living `Secret` replaced by `***`.

    The second line of defence: no text should hold a secret to begin with.
    """
    for secret in sorted(_living.copy(), key=lambda one: -len(one.reveal())):
        value = secret.reveal()
        if len(value) >= _SHORTEST_SCRUBBED and value in text:
            text = text.replace(value, MASK)
    return text
