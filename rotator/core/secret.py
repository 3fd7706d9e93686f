"""A value that must not be seen: it leaves its wrapper through `reveal()` and nowhere else."""

from __future__ import annotations

import re
import weakref
from typing import Final, NoReturn, final

MASK: Final = "***"

# Shorter values (an empty test password, "a") would shred every text they are scrubbed from.
_SHORTEST_SCRUBBED: Final = 6

# No way of quoting changes these.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.~-]*")
_QUOTES: Final = (("'", "''"), ('"', '""'), ("'", "\\'"), ('"', '\\"'), ("", ""))

# Every wrapper that is alive, so that `scrub` knows what to look for without keeping one alive. Other
# threads add to it and take from it at any moment, which a WeakSet does not bear while it is walked
# through; a plain set's `add`, `discard` and `copy` are one move each.
_living: set[weakref.ref[Secret]] = set()


@final
class Secret:
    """A secret text, such as a password.

    It shows `***` when printed, formatted or logged; it refuses to be pickled, written as JSON,
    iterated or ordered; two secrets are compared in constant time and never equal a plain string.
    """

    __slots__ = ("__weakref__", "_forms", "_value")

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance] # callers may be untyped
            msg = f"a Secret wraps a str, not {type(value).__name__}"
            raise TypeError(msg)
        self._value: str = value
        self._forms: tuple[str, ...] | None = None
        _living.add(weakref.ref(self, _living.discard))

    def reveal(self) -> str:
        """Return the secret text. The line that calls this is the line that sends it."""
        return self._value

    def mask_in(self, text: str) -> str:
        """Return `text` with this value replaced by `***`, as `scrub` does with every value."""
        if self._forms is None:
            # Kept, since each text that leaves is searched for every living secret.
            value = self._value
            if len(value) < _SHORTEST_SCRUBBED:
                self._forms = ()
            else:
                self._forms = (value,) if _PLAIN.fullmatch(value) else tuple(_forms(value))
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return MASK

    def __format__(self, format_spec: str) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return False
        from hmac import compare_digest  # noqa: PLC0415 # OpenSSL: clients are imported without it

        # A value from the environment may hold bytes that are no text; the error of an encoder
        # that stumbles over them would carry the value along.
        one, two = (value.encode(errors="surrogatepass") for value in (self._value, other._value))
        return compare_digest(one, two)

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

    Also where it was quoted on its way into the text, as Python, JSON, SQL or a URL quote. The
    second line of defence: no text should hold a secret to begin with.
    """
    living = [secret for one in _living.copy() if (secret := one()) is not None]
    for secret in sorted(living, key=lambda one: -len(one.reveal())):
        text = secret.mask_in(text)
    return text


def _forms(value: str) -> list[str]:
    """Return how a value may look in a text, the longest form first."""
    import json  # noqa: PLC0415 # as above
    from urllib.parse import quote, quote_plus  # noqa: PLC0415 # as above

    escaped = value.replace("\\", "\\\\")
    forms = {
        value,
        repr(value)[1:-1],
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        *(one.replace(mark, twice) for one in (value, escaped) for mark, twice in _QUOTES),
        # A value from the environment may hold bytes that are no text.
        repr(value.encode(errors="replace"))[2:-1],
        quote(value, errors="replace"),
        quote(value, safe="", errors="replace"),
        quote_plus(value, errors="replace"),
    }
    return sorted(forms, key=lambda form: (-len(form), form))
