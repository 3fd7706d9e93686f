"""Encryption of the embedded backend: AES-256-GCM, with keys that can be changed."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rotator.api import Denied, Secret, Unavailable, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_KEY_BYTES: Final = 32
# 96 bits, as NIST SP 800-38D recommends for a random nonce.
_NONCE_BYTES: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """An encrypted value with the id of the key that opens it."""

    key_id: str
    box: bytes


class Keys:
    """The newest key, which seals, and older ones, which still open."""

    def __init__(self, keys: Sequence[Secret]) -> None:
        """`keys`: newest first, each 32 bytes as URL-safe base64. Raises `UsageError`."""
        raw = [_decode(key) for key in keys]
        self._keys: dict[str, bytes] = {key_id(one): one for one in raw}
        self.newest: str = key_id(raw[0])

    def seal(self, plain: bytes, place: str) -> Sealed:
        """Encrypt under the newest key. `place` is bound to it: the box opens nowhere else."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 # 40 ms to import

        nonce = secrets.token_bytes(_NONCE_BYTES)
        box = AESGCM(self._keys[self.newest]).encrypt(nonce, plain, place.encode())
        return Sealed(key_id=self.newest, box=nonce + box)

    def open(self, sealed: Sealed, place: str) -> bytes:
        """Decrypt. Raises `Unavailable` when the key is missing, `Denied` when the box was tampered with."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        key = self._keys.get(sealed.key_id)
        if key is None:
            raise Unavailable(
                f"the value at {place} was encrypted with key {sealed.key_id}, which is not among the keys given.",
                hint="Put that key back, as `key` or under `old_keys`.",
            )
        nonce, box = sealed.box[:_NONCE_BYTES], sealed.box[_NONCE_BYTES:]
        try:
            return AESGCM(key).decrypt(nonce, box, place.encode())
        except InvalidTag as error:
            raise Denied(
                f"the value at {place} does not decrypt: it was changed or moved.",
                hint="Restore the backend's file from a copy.",
            ) from error


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
        raise UsageError(f"{path} is there already and may be in use.") from error
    with os.fdopen(descriptor, "w") as file:
        _ = file.write(new_key().reveal() + "\n")


def _decode(key: Secret) -> bytes:
    try:
        raw = base64.urlsafe_b64decode(key.reveal().strip().encode())
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _KEY_BYTES:
        raise UsageError(
            "the backend's key is not 32 bytes of URL-safe base64.",
            hint="`rotator init` makes one; an old one may have been cut or overwritten.",
        )
    return raw
