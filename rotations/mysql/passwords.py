"""What the servers keep of a password. It is sent in the password's place, so that no log holds one.

`mysql_native_password`: twice SHA-1. `caching_sha2_password`: SHA-256 crypt (Ulrich Drepper, "Unix crypt
using SHA-256 and SHA-512", https://www.akkadia.org/drepper/SHA-crypt.txt) with 20 bytes of salt where
that has at most 16, which is why no library computes it: `$A$`, thousands of rounds in hexadecimal, `$`,
salt, digest (MySQL's source, sql/auth/sha2_password.cc).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rotator.api import Entropy, Secret

NATIVE: Final = "mysql_native_password"
CACHING: Final = "caching_sha2_password"
_ALPHABET: Final = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SALT: Final = 20
# The server's default of caching_sha2_password_digest_rounds.
_ROUNDS: Final = 5000
_KEPT: Final = re.compile(r"\$A\$([0-9A-Fa-f]{3})\$(.{20})(.{43})", re.DOTALL)
# Of SHA-256, in bytes; and as letters.
_DIGEST: Final = 32
_LETTERS: Final = 43
# In which order the digest's bytes are written, three at a time.
_TRIPLES: Final = tuple(
    tuple((start + shift * 10) % 30 for shift in order)
    for start, order in zip(
        range(10), ((0, 1, 2), (2, 0, 1), (1, 2, 0)) * 3 + ((0, 1, 2),), strict=True
    )
)


def native_hash(password: Secret) -> str:
    """Return what mysql_native_password keeps."""
    first = hashlib.sha1(password.reveal().encode(), usedforsecurity=False).digest()
    return "*" + hashlib.sha1(first, usedforsecurity=False).hexdigest().upper()


def caching_hash(password: Secret, entropy: Entropy) -> str:
    """Return what caching_sha2_password keeps, with a salt of its own."""
    salt = "".join(_ALPHABET[one % len(_ALPHABET)] for one in entropy.token(_SALT))
    return f"$A${_ROUNDS // 1000:03X}${salt}{_sha256_crypt(password, salt, _ROUNDS)}"


def is_hash_of(kept: str, password: Secret) -> bool:
    """Return whether a server that keeps this lets this password in."""
    found = _KEPT.fullmatch(kept)
    made = (
        native_hash(password)
        if found is None
        else kept[:-_LETTERS] + _sha256_crypt(password, found[2], int(found[1], 16) * 1000)
    )
    return hmac.compare_digest(made.encode(), kept.encode())


def _sha256_crypt(password: Secret, salt: str, rounds: int) -> str:
    """Return the digest, 43 characters. The letters are those of Drepper's text."""
    key, seed = password.reveal().encode(), salt.encode("latin-1", "replace")
    b = hashlib.sha256(key + seed + key).digest()
    a = hashlib.sha256(key + seed + _repeated(b, len(key)))
    count = len(key)
    while count:
        a.update(b if count & 1 else key)
        count >>= 1
    c = a.digest()
    p = _repeated(hashlib.sha256(key * len(key)).digest(), len(key))
    s = _repeated(hashlib.sha256(seed * (16 + c[0])).digest(), len(seed))
    for number in range(rounds):
        one = p if number & 1 else c
        one += s if number % 3 else b""
        one += p if number % 7 else b""
        one += c if number & 1 else p
        c = hashlib.sha256(one).digest()
    said = "".join(_letters((c[x] << 16) | (c[y] << 8) | c[z], 4) for x, y, z in _TRIPLES)
    return said + _letters((c[31] << 8) | c[30], 3)


def _repeated(block: bytes, length: int) -> bytes:
    return (block * (length // _DIGEST + 1))[:length]


def _letters(value: int, count: int) -> str:
    return "".join(_ALPHABET[(value >> 6 * place) & 63] for place in range(count))
