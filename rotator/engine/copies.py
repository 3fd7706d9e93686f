"""Copies: further places that hold a secret's credential, for those who read it there.

They are written after publish, each by check-and-set and read back, before the old credential goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from rotator.core.errors import Conflict, StepError, Unknown
from rotator.core.model import Credential, Kind, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rotator.core.contracts.backend import SecretBackend
    from rotator.core.model import Event, Json, Version

# Under this end of its id a rotation that is rolled back writes to copies once more.
_BACK: Final = "-back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One such place. What it holds beside login and password is its own, and stays."""

    backend_name: str
    backend: SecretBackend
    path: str

    def __str__(self) -> str:
        return f"{self.backend_name}:{self.path}"


class Copies:
    """The copies of one secret, as one rotation writes them."""

    def __init__(
        self,
        copies: Sequence[Copy],
        rotation_id: str,
        *,
        wrote: Callable[[str], bool],
        before_effect: Callable[[], None],
    ) -> None:
        """`wrote` returns whether a rotation id is one of this secret's. `before_effect` raises when
        nothing may be written any more.
        """
        self._copies: Sequence[Copy] = copies
        self._id: str = rotation_id
        self._wrote: Callable[[str], bool] = wrote
        self._before_effect: Callable[[], None] = before_effect

    def check(self, current: Credential | None) -> None:
        """Require that each may be written, while nothing has begun. Raises `Conflict`."""
        for copy in self._copies:
            self._require_ours(copy, copy.backend.current(copy.path), lambda: current)

    def write(
        self, wanted: Credential, before: Callable[[], Credential | None], *, back: bool
    ) -> dict[str, Json]:
        """Write all of them; return the version that each has then.

        `before` looks up the credential that this secret had before the rotation. `back`: the
        rotation is being rolled back.
        """
        versions: dict[str, Json] = {}
        for copy in self._copies:
            try:
                if back:
                    # Staged there on the way forward, perhaps, and never to be published.
                    self._before_effect()
                    copy.backend.discard(copy.path, self._id)
                rotation_id = self._id + _BACK if back else self._id
                versions[str(copy)] = self._write(copy, wanted, before, rotation_id)
            except StepError as error:
                error.origin = f"backend {copy.backend_name}"
                error.what = f"the copy {copy} could not be written: {error.what}"
                raise
        return versions

    def require_held(self, wanted: Credential, history: Sequence[Event]) -> None:
        """Require that what this rotation has written is still there. Raises `Conflict`."""
        written = _written(history)
        for copy in self._copies:
            if str(copy) in written and not _holds(copy.backend.current(copy.path), wanted):
                raise Conflict(
                    f"the copy {copy} no longer holds the credential that was written there.",
                    hint="Nothing is revoked until this is resolved. Put it back, or take the copy out of the configuration.",
                    safety="The old credential is still valid.",
                )

    def stale(self, wanted: Credential | None) -> list[Copy]:
        """Return those that hold something else than `wanted`, or nothing."""
        return [
            copy
            for copy in self._copies
            if wanted is None or not _holds(copy.backend.current(copy.path), wanted)
        ]

    def _write(
        self,
        copy: Copy,
        wanted: Credential,
        before: Callable[[], Credential | None],
        rotation_id: str,
    ) -> str:
        there = copy.backend.current(copy.path)
        if there is not None and _holds(there, wanted):
            # Written already: by us in a process that died, or by a person.
            self._before_effect()
            copy.backend.discard(copy.path, rotation_id)
            return there.id
        self._require_ours(copy, there, before)
        own = there.credential.fields if there is not None else {}
        self._before_effect()
        new = replace(wanted, fields={**wanted.fields, **own})
        _ = copy.backend.stage(copy.path, rotation_id, new)
        self._before_effect()
        expect = there.id if there is not None else None
        version = copy.backend.publish(copy.path, rotation_id, expect=expect)
        if not _holds(copy.backend.read(copy.path, version), wanted):
            raise Unknown(f"version {version} was written and could not be read back.")
        return version

    def _require_ours(
        self, copy: Copy, there: Version | None, known: Callable[[], Credential | None]
    ) -> None:
        """Only what a rotation of this secret wrote may be overwritten, or its own credential."""
        if there is None or (
            there.rotation_id and self._wrote(there.rotation_id.removesuffix(_BACK))
        ):
            return
        credential = known()
        if credential is None or not _holds(there, credential):
            raise Conflict(
                f"{copy} is to be a copy, and holds another credential (login"
                f" {there.credential.username!r}) that rotator has not written there.",
                hint="Check the path. If the value may be overwritten, remove it first.",
            )


def same(one: Credential, other: Credential) -> bool:
    """Return whether two credentials are one login with one password."""
    return one.username == other.username and one.password == other.password


def _holds(version: Version | None, wanted: Credential) -> bool:
    return version is not None and same(version.credential, wanted)


def _written(history: Sequence[Event]) -> set[str]:
    """Return the copies that the newest run of the step wrote."""
    for event in reversed(history):
        if event.kind is Kind.FINISHED and event.step is Step.COPY:
            copies = event.data.get("copies")
            return set(copies) if isinstance(copies, Mapping) else set()
    return set()
