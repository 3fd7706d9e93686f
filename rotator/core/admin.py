"""What a target's admin may log in with, also while that admin itself is rotated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rotator.core.model import Credential
    from rotator.core.secret import Secret


@dataclass(frozen=True, slots=True)
class Admin:
    """The admin of a target: each call reads its credential again.

    `staged` returns what an unfinished rotation of this admin has staged in the backend: between the
    change on the target and publish, that is what the target accepts.
    """

    served: Callable[[], Credential]
    staged: Callable[[], Credential | None]

    def __call__(self) -> Credential:
        """Return what the backend serves."""
        return self.served()


def admin_logins(admin: Callable[[], Credential]) -> Iterator[Credential]:
    """Yield what an admin may log in with. Ask for the next one only when the target rejects one.

    First what is served. Then, because the admin itself may be in the middle of a rotation, what that has
    staged, and what is served by now. None is yielded twice.
    """
    tried: list[tuple[str, Secret]] = []
    staged = admin.staged if isinstance(admin, Admin) else None
    for read in (admin, staged, admin):
        credential = read() if read is not None else None
        if credential is None or (credential.username, credential.password) in tried:
            continue
        tried.append((credential.username, credential.password))
        yield credential
