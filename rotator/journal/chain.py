"""Hashes, chains and signatures. Pure: what goes in are the texts that the tables hold."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC
from json.encoder import encode_basestring as _quote
from typing import TYPE_CHECKING, Final

from rotator.core.errors import UsageError
from rotator.core.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

    from rotator.core.model import Json

START: Final = "0" * 64
_EVENT: Final = "rotator event 1"
_CHECKPOINT: Final = "rotator checkpoint 1"
_SEAL: Final = "rotator row 1"
_QUOTED: Final = 100
# What an Ed25519 private key begins with in PKCS#8 (RFC 8410); its 32 bytes follow.
_PKCS8: Final = bytes.fromhex("302e020100300506032b657004220420")
# And a public key in its DER form.
_SPKI: Final = bytes.fromhex("302a300506032b6570032100")
# Made once: json.dumps makes a new encoder at each call that does not use its defaults.
_SORTED: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, sort_keys=True).encode


def stamp(at: datetime) -> str:
    """Return a time as the journal writes it: UTC, microseconds, `Z` spelled +00:00."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def canonical(data: Mapping[str, Json]) -> str:
    """Return the one JSON text of `data`: sorted keys, no spaces, characters as they are."""
    return _SORTED(data)


def digest(domain: str, parts: Iterable[object]) -> str:
    """Return the SHA-256, in hex, of the JSON array of `domain` and `parts`.

    A JSON array keeps texts, numbers and null apart and their borders visible, so two different
    rows never give the same bytes, and an outsider can compute it in any language.
    """
    text = f"[{_quote(domain)},{','.join(map(_json, parts))}]"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _json(part: object) -> str:
    # What json.dumps writes for a text, a number or null, in a third of its time.
    if isinstance(part, str):
        return _quote(part)
    return "null" if part is None else str(part)


def event_hash(
    secret: str,
    seq: int,
    at: str,
    actor: str,
    fence: int,
    kind: str,
    rotation_id: str | None,
    step: str | None,
    data: str,
    prev_hash: str,
) -> str:
    """Return the hash of an event, in the order of the table's columns; `data` is its text."""
    return ChainHash(secret).of(seq, at, actor, fence, kind, rotation_id, step, data, prev_hash)


class ChainHash:
    """The hashes of the events of one secret; texts that return in many of them are quoted once."""

    __slots__: tuple[str, ...] = ("_quoted", "_secret")

    def __init__(self, secret: str) -> None:
        self._secret: str = secret
        self._quoted: _Quoted = _Quoted()

    def of(
        self,
        seq: int,
        at: str,
        actor: str,
        fence: int,
        kind: str,
        rotation_id: str | None,
        step: str | None,
        data: str,
        prev_hash: str,
    ) -> str:
        """Return the hash of an event, as `event_hash` does."""
        if seq.__class__ is not int or fence.__class__ is not int:
            parts = (seq, at, actor, fence, kind, rotation_id, step, data, prev_hash)
            return digest(_EVENT, (self._secret, *parts))
        quoted = self._quoted
        # The same array as `digest` makes, written out: `audit verify` does this a million times.
        array = (
            f'["{_EVENT}",{quoted[self._secret]},{seq},{_quote(at)},'
            f"{quoted[actor]},{fence},{quoted[kind]},"
            f"{'null' if rotation_id is None else quoted[rotation_id]},"
            f"{'null' if step is None else quoted[step]},{_quote(data)},{_quote(prev_hash)}]"
        )
        return hashlib.sha256(array.encode("utf-8", "surrogatepass")).hexdigest()


class _Quoted(dict[str, str]):
    """Texts as JSON, made when they are first asked for; not for ever, since they come from a database."""

    def __missing__(self, text: str) -> str:
        if len(self) >= _QUOTED:
            self.clear()
        self[text] = quoted = _quote(text)
        return quoted


def checkpoint_hash(number: int, at: str, heads: str, prev_hash: str) -> str:
    """Return the hash of a checkpoint: what is signed."""
    return digest(_CHECKPOINT, (number, at, heads, prev_hash))


def seal(table: str, values: Iterable[object]) -> str:
    """Return the digest of a mutable row, without its seal."""
    return digest(_SEAL, (table, *values))


def new_signing_key() -> Secret:
    """Draw an Ed25519 private key, as unencrypted PKCS#8 PEM."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 # 40 ms to import
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Secret(pem.decode())


def public_key(private: Secret) -> str:
    """Return the public half of a signing key, as PEM."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    return (
        _private(private)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def private_bytes(private: Secret) -> bytes:
    """Return the 32 bytes of a signing key."""
    lines = private.reveal().strip().splitlines()
    try:
        raw = base64.b64decode("".join(lines[1:-1]), validate=True)
    except ValueError:
        raw = b""
    # As `rotator init` and openssl write it: read here, so that a rotation function, which signs
    # nothing, needs no package for it.
    if lines[:1] == ["-----BEGIN PRIVATE KEY-----"] and raw[:-32] == _PKCS8:
        return raw[-32:]
    return _private(private).private_bytes_raw()


def key_id(public: str) -> str:
    """Return a short name for a public key: the start of the SHA-256 of its 32 raw bytes."""
    return hashlib.sha256(public_bytes(public)).hexdigest()[:16]


def public_bytes(public: str) -> bytes:
    """Return the 32 bytes of a public key."""
    return _public(public).public_bytes_raw()


def public_pem(raw: bytes) -> str:
    """Return a public key of 32 bytes as PEM."""
    text = base64.b64encode(_SPKI + raw).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n"


def sign(private: Secret, message: str) -> str:
    """Sign the UTF-8 bytes of `message`; returns base64."""
    return base64.b64encode(_private(private).sign(message.encode())).decode()


def signed(public: str, message: str, signature: str) -> bool:
    """Return whether `signature` (base64) is that of `message` under the public key (PEM)."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415

    try:
        raw = base64.b64decode(signature, validate=True)
        _public(public).verify(raw, message.encode())
    except (InvalidSignature, ValueError, TypeError, AttributeError):
        return False
    # The last letter of base64 has bits to spare: only one writing of a signature is ours.
    return base64.b64encode(raw).decode() == signature


def _private(pem: Secret) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    try:
        key = serialization.load_pem_private_key(pem.reveal().encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(
            "the journal's signing key is not an Ed25519 private key in PEM form.",
            hint="`rotator init` creates one. See `rotator docs journal`.",
        )
    return key


def _public(pem: str) -> Ed25519PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError("the public key is not an Ed25519 key in PEM form.")
    return key
