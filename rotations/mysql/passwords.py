"""What the servers keep of a password. It is sent in the password's place, so that no log holds one.

`mysql_native_password`: twice SHA-1. `caching_sha2_password`: SHA-256 crypt (Ulrich Drepper, "Unix crypt
using SHA-256 and SHA-512", https://www.akkadia.org/drepper/SHA-crypt.txt) with 20 bytes of salt where
that has at most 16, which is why no library computes it: `$A$`, thousands of rounds in hexadecimal, `$`,
salt, digest (MySQL's source, sql/auth/sha2_password.cc). `$B$` is the same with PBKDF2-HMAC-SHA512 in Base64
(MySQL 9, caching_sha2_password_storage_format=PBKDF2_SHA512).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rotator.api import Entropy, Secret

# Plugins that keep what they compare a password with: one by them would stay valid.
KEEP_PASSWORDS: Final = frozenset({"ed25519", "parsec", "mysql_old_password"})
NATIVE: Final = "mysql_native_password"
CACHING: Final = "caching_sha2_password"
_ALPHABET: Final = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SALT: Final = 20
# The default of caching_sha2_password_digest_rounds before MySQL 9; it is a number of thousands.
ROUNDS: Final = 5000
_MOST_ROUNDS: Final = 0xFFF * 1000
_KEPT: Final = re.compile(r"\$([AB])\$([0-9A-Fa-f]{3})\$(.{20})(.{43}|.{88})", re.DOTALL)
_NATIVE: Final = re.compile(r"\*[0-9A-F]{40}")
SHA256_CRYPT: Final = "A"
PBKDF2: Final = "B"
_PBKDF2_BYTES: Final = 64
# Of SHA-256, in bytes; and as letters.
_DIGEST: Final = 32
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


def caching_hash(
    password: Secret, entropy: Entropy, *, form: str = SHA256_CRYPT, rounds: int = ROUNDS
) -> str:
    """Return what caching_sha2_password keeps, with a salt of its own. `form`: one of the two above."""
    salt = "".join(_ALPHABET[one % len(_ALPHABET)] for one in entropy.token(_SALT))
    return _caching(password, salt, form, min(max(rounds, ROUNDS), _MOST_ROUNDS) // 1000)


def rounds_of(kept: str) -> int:
    """Return how many rounds a hash was made with; 0 where its kind has none."""
    found = _KEPT.fullmatch(kept)
    return int(found[2], 16) * 1000 if found else 0


def is_known(kept: str) -> bool:
    """Return whether `is_hash_of` can read it."""
    return bool(_NATIVE.fullmatch(kept) or _KEPT.fullmatch(kept))


def is_hash_of(kept: str, password: Secret) -> bool:
    """Return whether a server that keeps this lets this password in. False for what is not known."""
    found = _KEPT.fullmatch(kept)
    made = (
        native_hash(password)
        if found is None
        else _caching(password, found[3], found[1], int(found[2], 16))
    )
    return hmac.compare_digest(made.encode(), kept.encode())


def _caching(password: Secret, salt: str, form: str, thousands: int) -> str:
    head = f"${form}${thousands:03X}${salt}"
    if form == SHA256_CRYPT:
        return head + _sha256_crypt(password, salt, thousands * 1000)
    digest = hashlib.pbkdf2_hmac(
        "sha512",
        password.reveal().encode(),
        salt.encode("latin-1", "replace"),
        thousands * 1000,
        _PBKDF2_BYTES,
    )
    return head + base64.b64encode(digest).decode()


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
