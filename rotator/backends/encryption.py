"""Encryption of the embedded backend: AES-256-GCM and HMAC-SHA-256, with keys that can be changed."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rotator.api import Denied, Secret, Unavailable, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_KEY_BYTES: Final = 32
# So many different bytes any random key has; one of zeros, or of one repeated letter, has not.
_FEWEST_DIFFERENT: Final = 8
# 96 bits, as NIST SP 800-38D recommends for a random nonce, and the tag.
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
# HKDF-Expand (RFC 5869) with one block; the key is random, so nothing is extracted first.
_DERIVE_MAC_KEY: Final = b"rotator embedded backend: manifests\x01"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """An encrypted value, or an authentication code, with the id of the key that made it."""

    key_id: str
    box: bytes


class Keys:
    """The newest key, which seals, and older ones, which still open."""

    def __init__(self, keys: Sequence[Secret]) -> None:
        """`keys`: newest first, each 32 bytes as URL-safe base64. Raises `UsageError`."""
        raw = [_decode(key) for key in keys]
        if len(set(raw[0])) < _FEWEST_DIFFERENT:
            raise UsageError(
                "the backend's key is not random.",
                hint="Generate a new one: (umask 077; openssl rand -base64 32 | tr '+/' '-_' >"
                " new.key). If this key encrypted any values, list it under `old_keys`, then"
                " run: rotator reseal BACKEND",
            )
        self._keys: dict[str, bytes] = {key_id(one): one for one in raw}
        self._mac_keys: dict[str, bytes] = {
            name: hmac.digest(one, _DERIVE_MAC_KEY, "sha256") for name, one in self._keys.items()
        }
        self.newest: str = key_id(raw[0])

    def __contains__(self, name: object) -> bool:
        return name in self._keys

    def seal(self, plain: bytes, bound: str) -> Sealed:
        """Encrypt under the newest key. The box opens only with the same `bound`."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 # 40 ms to import

        nonce = secrets.token_bytes(_NONCE_BYTES)
        box = AESGCM(self._keys[self.newest]).encrypt(nonce, plain, bound.encode())
        return Sealed(key_id=self.newest, box=nonce + box)

    def open(self, sealed: Sealed, bound: str, what: str) -> bytes:
        """Decrypt. Raises `Unavailable` when the key is missing, `Denied` when the box was tampered with.

        `what`: how the errors call the value.
        """
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        key = self._key(sealed.key_id, what)
        box = sealed.box
        if isinstance(box, bytes) and len(box) >= _NONCE_BYTES + _TAG_BYTES:  # pyright: ignore[reportUnnecessaryIsInstance] # a column takes anything
            with suppress(InvalidTag):
                return AESGCM(key).decrypt(box[:_NONCE_BYTES], box[_NONCE_BYTES:], bound.encode())
        raise Denied(
            f"{what} failed to decrypt: it was changed or moved.",
            hint="Restore the backend's file from a backup.",
        )

    def mac(self, text: str) -> Sealed:
        """Return the authentication code of a text, made with the newest key."""
        return Sealed(key_id=self.newest, box=self._mac(self.newest, text))

    def require(self, code: Sealed, text: str, what: str) -> None:
        """Raise `Denied` unless `code` is that of the text, `Unavailable` when its key is missing."""
        _ = self._key(code.key_id, what)
        made = isinstance(code.box, bytes)  # pyright: ignore[reportUnnecessaryIsInstance] # as above
        if made:
            made = hmac.compare_digest(self._mac(code.key_id, text), code.box)
        if not made:
            raise Denied(
                f"{what} was modified: its version, stage or time was changed or moved.",
                hint="Find out who can write to the backend's file, and restore it from a backup.",
            )

    def _mac(self, name: str, text: str) -> bytes:
        return hmac.digest(self._mac_keys[name], text.encode(), "sha256")

    def _key(self, name: str, what: str) -> bytes:
        key = self._keys.get(name)
        if key is None:
            shown = name if isinstance(name, str) and name.isalnum() else "?"  # pyright: ignore[reportUnnecessaryIsInstance] # as above
            raise Unavailable(
                f"{what} was encrypted with key {shown}, which is not configured.",
                hint="Restore that key, as `key` or under `old_keys`.",
            )
        return key


def key_id(raw: bytes) -> str:
    """Return a short public name for a key; it tells nothing about the key."""
    return hashlib.sha256(b"rotator key id\0" + raw).hexdigest()[:16]


def new_key() -> Secret:
    """Draw a key."""
    return Secret(base64.urlsafe_b64encode(secrets.token_bytes(_KEY_BYTES)).decode())


def create_key_file(path: Path) -> None:
    """Write a new key to a file that only its owner can read. Never overwrites one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise UsageError(f"{path} already exists and may be in use.") from error
    with os.fdopen(descriptor, "w") as file:
        _ = file.write(new_key().reveal() + "\n")


def _decode(key: Secret) -> bytes:
    try:
        raw = base64.urlsafe_b64decode(key.reveal().strip().encode())
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _KEY_BYTES:
        raise UsageError(
            "the backend's key is not 32 bytes in URL-safe base64.",
            hint="`rotator init` generates one; an existing key may have been truncated or"
            " overwritten.",
        )
    return raw
