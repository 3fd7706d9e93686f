"""The hash of a password, computed here and sent in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotations.postgresql.profile import OPTIONS_OF_MEMBERSHIPS, Profile
from rotator.api import Secret

if TYPE_CHECKING:
    from rotations.postgresql.options import SecretOptions
    from rotations.postgresql.server import Connection
    from rotator.api import Credential

SCRAM: Final = "scram-sha-256"
# `scram_iterations` came with the options of memberships.
_ITERATIONS_SINCE: Final = OPTIONS_OF_MEMBERSHIPS


def wanted(options: SecretOptions, old: Profile | None) -> str:
    """Return the kind of hash that the next login gets, such as `md5` or `scram-sha-256:4096`.

    A driver that speaks md5 only is rejected where the server keeps a SCRAM verifier.
    """
    chosen = options.password_encryption
    if chosen != "keep":
        return chosen
    return (old.password if old is not None else None) or SCRAM


def change(options: SecretOptions, old: Profile | None) -> str | None:
    """Return in words how the kind of hash changes; None when it stays, or cannot be seen."""
    before = old.password if old is not None else None
    after = wanted(options, old)
    if before is None or before.partition(":")[0] == after.partition(":")[0]:
        return None
    return (
        f"the server stores the current password as {before.partition(':')[0]}, and will store"
        f" the next one as {after}: it will reject clients that do not support that"
    )


def alike(version: int, one: str | None, other: str) -> bool:
    """Return whether a hash is of the wanted kind; True where the admin cannot see it."""
    if one is None:
        return True
    if ":" not in other or version < _ITERATIONS_SINCE:
        return one.partition(":")[0] == other.partition(":")[0]
    return one == other


def verifier(connection: Connection, credential: Credential, kind: str) -> Secret:
    """Return what the server is to keep of a password."""
    algorithm, _, iterations = kind.partition(":")
    own = connection.info.parameter_status("scram_iterations")
    # libpq counts as the session's setting says, which the server reports.
    differs = bool(iterations) and own is not None and own != iterations
    if differs:
        _ = connection.execute(
            "SELECT pg_catalog.set_config('scram_iterations', %s, false)", [iterations]
        )
    try:
        made = connection.pgconn.encrypt_password(
            credential.password.reveal().encode(), credential.username.encode(), algorithm.encode()
        )
    finally:
        if differs:
            _ = connection.execute("RESET scram_iterations")
    return Secret(made.decode())
