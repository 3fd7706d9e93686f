"""The contract of delegated rotation: another system rotates on request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from rotator.core.contracts.rotation import StepContext
    from rotator.core.model import Credential


@runtime_checkable
class RotatesOnRequest(Protocol):
    """Optional: a backend that rotates secrets on request. For those nothing is staged."""

    def rotates_itself(self, path: str) -> bool:
        """Return whether this secret is the backend's own to rotate."""
        ...

    def request_rotation(self, path: str, rotation_id: str, *, expect: str | None) -> str:
        """Request a rotation; return the id of the version that it will make current.

        An ensure: asked again under the same id, or while another one is in progress, it returns
        that one's version. `expect` is the version that was current when this request was first
        made: where it no longer is, the rotation has happened, and the current one's id is
        returned. Raises `Denied` where the request would have no effect.
        """
        ...


@runtime_checkable
class Repairs(Protocol):
    """Optional: a rotation that recovers the secret's owner when the served credential is rejected."""

    def repair(self, current: Credential, ctx: StepContext) -> None:
        """Recover the owner, where that is allowed. Called after the served credential was rejected."""
        ...
