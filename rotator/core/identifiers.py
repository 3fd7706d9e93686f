"""Names of successive logins: within the target's limit, and never one that was used before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rotator.core.ports import Entropy

# PostgreSQL cuts identifiers to NAMEDATALEN - 1 bytes (manual, section 4.1.1).
POSTGRESQL_NAME_BYTES: Final = 63

# Without vowels no word appears, without 0/1/l/o none is misread.
_ALPHABET: Final = "23456789bcdfghjkmnpqrstvwxz"
_SUFFIX: Final = 10
_MARK: Final = "_r"


def fit(name: str, limit: int) -> str:
    """Cut `name` to at most `limit` bytes of UTF-8, never inside a character."""
    return name.encode()[:limit].decode(errors="ignore")


def successor(base: str, entropy: Entropy, *, limit: int = POSTGRESQL_NAME_BYTES) -> str:
    """Return a new login name that starts with `base`, as much of it as fits into `limit` bytes.

    Ten characters of 27 are 47 bits: after a million rotations of one base the chance that any
    two ever met is under one in a hundred, and a plugin that finds the name taken draws again.
    """
    suffix = "".join(_ALPHABET[entropy.below(len(_ALPHABET))] for _ in range(_SUFFIX))
    tail = f"{_MARK}{suffix}"
    return fit(base, limit - len(tail)) + tail


def new_id(entropy: Entropy) -> str:
    """Return a rotation id: a random UUID (version 4) in its usual 36 characters."""
    raw = bytearray(entropy.token(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
