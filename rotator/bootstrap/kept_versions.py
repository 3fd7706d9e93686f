"""The values of all managed secrets that their backends still hold, for a search in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotator.core.contracts.backend import KeepsPrevious
from rotator.core.errors import RotatorError
from rotator.find.known import KeptVersion
from rotator.find.model import Account

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rotator.bootstrap.wiring import Wiring
    from rotator.core.model import Version

# Older versions are looked up by the rotations that wrote them.
_MOST_ROTATIONS = 20


def kept_versions(parts: Wiring) -> tuple[list[KeptVersion], list[tuple[str, RotatorError]]]:
    """Return every kept version of every secret, and the secrets whose backend could not be read."""
    found: list[KeptVersion] = []
    failures: list[tuple[str, RotatorError]] = []
    for name in parts.settings.secrets:
        try:
            found += _of_secret(parts, name)
        except RotatorError as error:
            failures.append((name, error))
    return found, failures


def _of_secret(parts: Wiring, name: str) -> Iterator[KeptVersion]:
    secret = parts.settings.secrets[name]
    backend = parts.keeper(secret)
    known: set[str] = set()
    current = backend.current(secret.path)
    versions = [("current", current)]
    if isinstance(backend, KeepsPrevious):
        versions.append(("previous", backend.previous(secret.path)))
    for rotation in parts.journal.rotations(name, _MOST_ROTATIONS):
        for version in (rotation.new_version, rotation.old_version):
            if version and version not in known | {
                one.id for _, one in versions if one is not None
            }:
                known.add(version)
                versions.append(("older", backend.read(secret.path, version)))
    for label, version in versions:
        if version is not None:
            yield _kept(name, label, version, is_current=label == "current")


def _kept(secret: str, label: str, version: Version, *, is_current: bool) -> KeptVersion:
    credential = version.credential
    return KeptVersion(
        secret=secret,
        version=label,
        value=credential.password,
        account=Account(login=credential.username),
        is_current=is_current,
    )
