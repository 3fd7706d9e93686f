"""Hashed values of `userPassword`: what a server with dual passwords must be given, and can return."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotations.ldap.options import Hash
    from rotator.api import Secret

SALT_BYTES: Final = 16
_DIGESTS: Final[dict[str, Callable[[bytes], Any]]] = {
    # All servers verify it. A password that rotator draws is too long to be guessed by any hash.
    "SSHA": lambda data: hashlib.sha1(data, usedforsecurity=False),
    "SSHA256": hashlib.sha256,
    "SSHA384": hashlib.sha384,
    "SSHA512": hashlib.sha512,
}


def hashed(password: Secret, scheme: Hash, salt: bytes) -> bytes:
    """Return a value of `userPassword`: `{SCHEME}` and the base64 of digest and salt (RFC 2307)."""
    digest = _DIGESTS[scheme](password.reveal().encode() + salt).digest()
    return b"{%s}%s" % (scheme.encode(), base64.b64encode(digest + salt))


def matches(value: bytes, password: Secret) -> bool:
    """Return whether a value is known to be of this password: a scheme of ours, or plain text."""
    text = password.reveal().encode()
    if not text:
        return False
    scheme, closed, encoded = value.partition(b"}")
    digest = _DIGESTS.get(scheme.removeprefix(b"{").decode(errors="replace").upper())
    if not closed or digest is None:
        return hmac.compare_digest(value, text)
    try:
        found = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return False
    size = digest(b"").digest_size
    return hmac.compare_digest(found[:size], digest(text + found[size:]).digest())
