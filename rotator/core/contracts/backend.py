"""The contract of a backend, which keeps secrets. Optional abilities are protocols of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from rotator.core.model import Credential, Finding, Version
    from rotator.core.rights import Rights
    from rotator.core.secret import Secret


class SecretBackend(Protocol):
    """Where secrets are kept. Every method that writes is an ensure, keyed by the rotation id.

    Errors: `Transient` (nothing was written), `Unknown` (it may have been), `Denied` (our access
    lacks a right), `Conflict` (a foreign write). No other exception leaves a backend.
    """

    def current(self, path: str) -> Version | None:
        """Return the published version, None when there is none. What consumers read."""
        ...

    def read(self, path: str, version: str) -> Version | None:
        """Return that very version, None when the backend no longer holds its value."""
        ...

    def staged(self, path: str, rotation_id: str) -> Credential | None:
        """Return what this rotation has staged, None when nothing is staged."""
        ...

    def stage(self, path: str, rotation_id: str, new: Credential) -> Credential:
        """Keep `new` durably, unseen by consumers. First write wins: returns what is stored."""
        ...

    def publish(self, path: str, rotation_id: str, *, expect: str | None) -> str:
        """Make the staged value current, only if the current version is still `expect`.

        `expect` None: only if there is no current version. Returns the new version's id; if this
        rotation has already been published and is current, its id, no matter what `expect` is. The
        staged value is gone afterwards. Raises `Conflict` when the current version is another.
        Once the write has gone out, only `Unknown` may be raised.
        """
        ...

    def discard(self, path: str, rotation_id: str) -> None:
        """Forget what this rotation has staged. Nothing there is success; published is untouched."""
        ...

    def restore(self, path: str, *, expect: str, to: str) -> str:
        """Make the value of version `to` current again, only if the current version is `expect`.

        Returns the id of the version that is then current. If the current version already is
        `to`, or a copy of it that an earlier call made, returns that. Raises `Conflict` when
        somebody else has written since.
        """
        ...


@runtime_checkable
class KeepsValues(Protocol):
    """Optional: a backend that keeps single values too: signing keys, checkpoint anchors."""

    def get_value(self, path: str, field: str) -> Secret | None:
        """Return one field of the value at `path`; None when it is missing."""
        ...

    def put_value(self, path: str, field: str, value: Secret) -> None:
        """Keep one field at `path`; replaces an earlier value."""
        ...


@runtime_checkable
class KeepsPrevious(Protocol):
    """Optional: a backend that keeps the version before the current one."""

    def previous(self, path: str) -> Version | None:
        """Return the version that was current before the current one; None where it is not kept."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NextVersion:
    """What is about to be served. `version`: the id that it is published under."""

    rotation_id: str
    version: str
    credential: Credential


@runtime_checkable
class OffersNext(Protocol):
    """Optional: a backend that shows consumers the staged value as the next version.

    All are ensures, with the errors of `SecretBackend`.
    """

    def offer(self, path: str, rotation_id: str, *, expect: str) -> None:
        """Let consumers read what this rotation has staged as the version after `expect`.

        Replaces what another rotation left there. Raises `Conflict` when nothing is staged.
        """
        ...

    def retract(self, path: str, rotation_id: str) -> None:
        """End what `offer` did. Nothing there is success; another rotation's is untouched."""
        ...

    def next(self, path: str) -> NextVersion | None:
        """Return the version that comes next, as consumers read it; None where there is none."""
        ...


@runtime_checkable
class RemovesSecrets(Protocol):
    """Optional: a backend that can remove a secret with all its versions."""

    def remove(self, path: str, *, expect: str | None) -> None:
        """Remove everything at `path`, only if the current version is `expect`. Gone is success.

        Raises `Conflict` when the current version is another.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerResponse:
    """A server's answer: its HTTP status, its data, and its text where it refused.

    `said` is the server's text and may contain passwords: derive the kind of a failure from it, and never repeat it.
    """

    status: int
    data: Mapping[str, object] = field(default_factory=dict[str, object], repr=False)
    said: str = field(default="", repr=False)


@runtime_checkable
class CallsServer(Protocol):
    """Optional: a backend that lends its login for requests to other parts of the same server."""

    @property
    def where(self) -> str:
        """The server's name in a message, such as `Vault at https://vault:8200`."""
        ...

    def call(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *, capability: str
    ) -> ServerResponse:
        """Send one request, and return the answer: done (200, 204) or refused (400, 404, 500).

        `path` is what a policy names, and `capability` what it must allow there. Raises `Transient`
        (nothing was sent), `Unknown` (a write was sent and the answer is lost) and `Denied`, with
        the line that the policy lacks.
        """
        ...


@runtime_checkable
class Reseals(Protocol):
    """Optional: a backend that encrypts its values, under keys that can be changed."""

    def reseal(self) -> int:
        """Encrypt everything again under the newest key; return the number of values."""
        ...


@runtime_checkable
class TellsRotations(Protocol):
    """Optional: a backend that knows which rotations wrote to it: a check on the journal from outside."""

    def rotation_ids(self, path: str) -> set[str]:
        """Return the ids of the rotations that wrote what is held at `path`."""
        ...


@runtime_checkable
class DetectsRestores(Protocol):
    """Optional: a backend that only rotator can write to.

    Where it serves what the journal knows to be superseded, an older copy of it was put back.
    """

    def served(self, path: str) -> str | None:
        """Return the id of the current version, without opening its value."""
        ...


@runtime_checkable
class ExaminesBackend(Protocol):
    """Optional: a backend that checks whether it would work for these paths."""

    def examine(self, paths: Mapping[str, timedelta | None]) -> list[Finding]:
        """Examine access, retention and limits. Nothing that a consumer reads is changed.

        `paths`: each with the time between two rotations, None where there is no schedule.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """One thing that a policy must allow: on which path of the server, what, and what for."""

    path: str
    capabilities: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The paths of a backend that a policy allows: rotated secrets, single values that are written,
    credentials that are only read, of which `admins` are those that targets are managed with,
    (`called`) other parts of the same server, and rotated secrets whose next version is read too.
    """

    rotated: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    called: tuple[Right, ...] = ()
    admins: tuple[str, ...] = ()
    next: tuple[str, ...] = ()


@runtime_checkable
class ListsRights(Protocol):
    """Optional: a backend that shows who may do what to what it keeps."""

    def rights(self, paths: Sequence[str]) -> Rights:
        """Return who may read, write and delete what is kept at these paths. Changes nothing.

        What our access does not show is in `unseen` and raises nothing. Raises `Transient` and
        `Unavailable` where nothing could be read.
        """
        ...


@runtime_checkable
class WritesPolicy(Protocol):
    """Optional: a backend's plugin that writes the least access policy, in the backend's own language."""

    @property
    def policies(self) -> tuple[str, ...]:
        """Whom it writes policies for: `rotator` first, `consumer`, and others."""
        ...

    def policy(self, options: object, access: Access, *, of: str) -> str:
        """Return the least policy of one of `policies`, for a backend with these options.

        Raises `UsageError` when the options do not suffice for it.
        """
        ...
