"""What a target that keeps and rotates its own secrets need not write: bases for its two parts.

Its backend says what is served and takes requests for another one; its rotation says how that is
tried. Nothing is staged, set or revoked by us, so the rest of the contract is refused here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from rotator.core.errors import Denied

if TYPE_CHECKING:
    from rotator.core.contracts.rotation import StepContext
    from rotator.core.model import Credential, Evidence, Version


class DelegatedBackend(ABC):
    """The backend of secrets that are rotated where they are kept, and only there.

    The password of a version is empty where it is shown to nobody; see `DelegatedRotation.probe`.
    """

    @abstractmethod
    def current(self, path: str) -> Version | None:
        """Return what is served now; None when there is nothing."""

    @abstractmethod
    def request_rotation(self, path: str, rotation_id: str, *, expect: str | None) -> str:
        """Ask for a rotation, unless `expect` is no longer current; see `RotatesOnRequest`."""

    def rotates_itself(self, path: str) -> bool:
        """Return True: nobody else could."""
        _ = path
        return True

    def read(self, path: str, version: str) -> Version | None:
        """Return that version while it is the current one: none before it is held."""
        current = self.current(path)
        return current if current is not None and current.id == version else None

    def staged(self, path: str, rotation_id: str) -> Credential | None:
        """Return None: nothing is ever staged."""
        _ = path, rotation_id

    def discard(self, path: str, rotation_id: str) -> None:
        """Do nothing: what is not there need not be forgotten."""
        _ = path, rotation_id

    def stage(self, path: str, rotation_id: str, new: Credential) -> Credential:
        """Refuse: no value can be given to it."""
        _ = rotation_id, new
        raise _refused(path)

    def publish(self, path: str, rotation_id: str, *, expect: str | None) -> str:
        """Refuse: what is current is decided where it is kept."""
        _ = rotation_id, expect
        raise _refused(path)

    def restore(self, path: str, *, expect: str, to: str) -> str:
        """Refuse: the credential before is held nowhere."""
        _ = expect, to
        raise _refused(path)


class DelegatedRotation(ABC):
    """How a credential is tried that another system makes, sets and takes back."""

    @property
    def overlaps(self) -> bool:
        """Whether the credential before stays valid for a while."""
        return False

    @abstractmethod
    def verify(self, new: Credential, ctx: StepContext) -> Evidence:
        """Log in with the served credential; raises `Refused` when it is rejected."""

    @abstractmethod
    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        """Try to log in once; an empty password stands for the one that only its keeper knows."""

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Refuse: the other system draws it."""
        _ = current
        raise _refused(ctx.secret)

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Refuse: the other system sets it."""
        _ = new
        raise _refused(ctx.secret)

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Refuse: the other system takes it back."""
        _ = old
        raise _refused(ctx.secret)

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Refuse: nothing was set."""
        _ = new
        raise _refused(ctx.secret)


def _refused(what: str) -> Denied:
    return Denied(
        f"{what!r} is made, set and kept by its target itself: no value can be given to it.",
        hint="Have it rotated where it is: rotator rotate SECRET. Take it over without a password: rotator adopt SECRET.",
        safety="Nothing was changed.",
    )
