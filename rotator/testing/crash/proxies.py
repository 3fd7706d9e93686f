"""The ports as one process sees them: every call is a point at which it can die."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotator.core.contracts.backend import OffersNext
from rotator.core.contracts.delegated import RotatesOnRequest
from rotator.core.contracts.rotation import Contains, CountsSessions, DrawsKeys
from rotator.core.delegated import DelegatedRotation
from rotator.core.model import Step

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from rotator.core.contracts.backend import NextVersion, SecretBackend
    from rotator.core.contracts.rotation import Entrance, Rotation, StepContext
    from rotator.core.history import RotationRecord, SecretRecord
    from rotator.core.model import Credential, Event, Evidence, Lock, NewEvent, Version
    from rotator.core.ports import Journal
    from rotator.core.session import Session
    from rotator.testing.crash.points import Points
    from rotator.testing.crash.promises import Promises


class JournalProxy:
    """The journal, call by call."""

    def __init__(self, inner: Journal, points: Points, promises: Promises) -> None:
        self._inner: Journal = inner
        self._points: Points = points
        self._promises: Promises = promises

    def acquire(self, secret: str, holder: str, ttl: timedelta) -> Lock:
        """Pass on."""
        return self._points.call(
            "journal", "acquire", lambda: self._inner.acquire(secret, holder, ttl)
        )

    def release(self, lock: Lock) -> None:
        """Pass on."""
        self._points.call("journal", "release", lambda: self._inner.release(lock))

    def append(self, lock: Lock, events: Sequence[NewEvent], ttl: timedelta) -> list[Event]:
        """Pass on, after a look at what shares a commit."""
        self._promises.check_commit(events)
        return self._points.call("journal", "append", lambda: self._inner.append(lock, events, ttl))

    def secret(self, secret: str) -> SecretRecord | None:
        """Pass on."""
        return self._points.call("journal", "secret", lambda: self._inner.secret(secret))

    def secrets(self) -> list[SecretRecord]:
        """Pass on."""
        return self._points.call("journal", "secrets", self._inner.secrets)

    def open_rotation(self, secret: str) -> RotationRecord | None:
        """Pass on."""
        return self._points.call(
            "journal", "open_rotation", lambda: self._inner.open_rotation(secret)
        )

    def rotation(self, rotation_id: str) -> RotationRecord | None:
        """Pass on."""
        return self._points.call("journal", "rotation", lambda: self._inner.rotation(rotation_id))

    def rotations(self, secret: str, limit: int = 50) -> list[RotationRecord]:
        """Pass on."""
        return self._points.call(
            "journal", "rotations", lambda: self._inner.rotations(secret, limit)
        )

    def history(self, rotation_id: str) -> list[Event]:
        """Pass on."""
        return self._points.call("journal", "history", lambda: self._inner.history(rotation_id))

    def events(self, secret: str, limit: int | None = None) -> list[Event]:
        """Pass on."""
        return self._points.call("journal", "events", lambda: self._inner.events(secret, limit))


class BackendProxy:
    """The backend, or (`copied`) one that keeps a copy, call by call."""

    def __init__(
        self, inner: SecretBackend, points: Points, promises: Promises, *, copied: bool = False
    ) -> None:
        self._inner: SecretBackend = inner
        self._port: str = "copy" if copied else "backend"
        # Where the target draws the key, `create` stages it.
        staging = Step.CREATE if promises.draws else Step.STAGE
        self._staging: Step = Step.COPY if copied else staging
        self._publishing: Step = Step.COPY if copied else Step.PUBLISH
        self._discarding: Step = Step.COPY if copied else Step.DISCARD
        self._points: Points = points
        self._promises: Promises = promises

    def current(self, path: str) -> Version | None:
        """Pass on."""
        return self._points.call(self._port, "current", lambda: self._inner.current(path))

    def read(self, path: str, version: str) -> Version | None:
        """Pass on."""
        return self._points.call(self._port, "read", lambda: self._inner.read(path, version))

    def staged(self, path: str, rotation_id: str) -> Credential | None:
        """Pass on."""
        return self._points.call(
            self._port, "staged", lambda: self._inner.staged(path, rotation_id)
        )

    def stage(self, path: str, rotation_id: str, new: Credential) -> Credential:
        """Pass on; what was staged is remembered, so that it can be tried at the end."""
        self._promises.remember(new)
        self._promises.drawn = None
        return self._points.call(
            self._port,
            "stage",
            lambda: self._inner.stage(path, rotation_id, new),
            effect_of=self._staging,
        )

    def publish(self, path: str, rotation_id: str, *, expect: str | None) -> str:
        """Pass on."""
        return self._points.call(
            self._port,
            "publish",
            lambda: self._inner.publish(path, rotation_id, expect=expect),
            effect_of=self._publishing,
        )

    def discard(self, path: str, rotation_id: str) -> None:
        """Pass on."""
        self._points.call(
            self._port,
            "discard",
            lambda: self._inner.discard(path, rotation_id),
            effect_of=self._discarding,
        )

    def restore(self, path: str, *, expect: str, to: str) -> str:
        """Pass on."""
        return self._points.call(
            self._port,
            "restore",
            lambda: self._inner.restore(path, expect=expect, to=to),
            effect_of=Step.RESTORE,
        )


class OfferingBackendProxy(BackendProxy):
    """A backend that shows consumers the next version, call by call."""

    def offer(self, path: str, rotation_id: str, *, expect: str) -> None:
        """Pass on."""
        self._points.call(
            self._port,
            "offer",
            lambda: self._shows.offer(path, rotation_id, expect=expect),
            effect_of=Step.PREPARE,
        )

    def retract(self, path: str, rotation_id: str) -> None:
        """Pass on."""
        self._points.call(
            self._port,
            "retract",
            lambda: self._shows.retract(path, rotation_id),
            effect_of=(Step.DRAIN, Step.DISCARD),
        )

    def next(self, path: str) -> NextVersion | None:
        """Pass on."""
        return self._points.call(self._port, "next", lambda: self._shows.next(path))

    @property
    def _shows(self) -> OffersNext:
        assert isinstance(self._inner, OffersNext)
        return self._inner


class DelegatedBackendProxy(BackendProxy):
    """A backend that rotates by itself, call by call."""

    def rotates_itself(self, path: str) -> bool:
        """Pass on."""
        return self._owner.rotates_itself(path)

    def request_rotation(self, path: str, rotation_id: str, *, expect: str | None) -> str:
        """Pass on."""
        return self._points.call(
            self._port,
            "request_rotation",
            lambda: self._owner.request_rotation(path, rotation_id, expect=expect),
            effect_of=Step.REQUEST,
        )

    @property
    def _owner(self) -> RotatesOnRequest:
        assert isinstance(self._inner, RotatesOnRequest)
        return self._inner


def backend_proxy(inner: SecretBackend, points: Points, promises: Promises) -> BackendProxy:
    """Return a proxy with the abilities of `inner`, and no others."""
    if isinstance(inner, RotatesOnRequest):
        return DelegatedBackendProxy(inner, points, promises)
    kind = OfferingBackendProxy if isinstance(inner, OffersNext) else BackendProxy
    return kind(inner, points, promises)


class RotationProxy:
    """The plugin, call by call."""

    def __init__(self, inner: Rotation, points: Points, promises: Promises) -> None:
        self._inner: Rotation = inner
        self._points: Points = points
        self._promises: Promises = promises

    @property
    def overlaps(self) -> bool:
        """Pass on."""
        return self._inner.overlaps

    def propose(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Pass on; nothing may change."""
        with self._promises.nothing_changes("propose"):
            return self._points.call(
                "rotation", "propose", lambda: self._inner.propose(current, ctx)
            )

    def create(self, new: Credential, ctx: StepContext) -> None:
        """Pass on, if the password is where it can be found again."""
        self._promises.check_staged(new, ctx.rotation_id)
        self._promises.check_create(ctx.rotation_id)
        self._points.call(
            "rotation", "create", lambda: self._inner.create(new, ctx), effect_of=Step.CREATE
        )

    def verify(self, new: Credential, ctx: StepContext) -> Evidence:
        """Pass on; nothing may change."""
        with self._promises.nothing_changes("verify"):
            return self._points.call("rotation", "verify", lambda: self._inner.verify(new, ctx))

    def probe(self, credential: Credential, ctx: StepContext) -> bool:
        """Pass on; nothing may change."""
        with self._promises.nothing_changes("probe"):
            return self._points.call(
                "rotation", "probe", lambda: self._inner.probe(credential, ctx)
            )

    def revoke(self, old: Credential, ctx: StepContext) -> None:
        """Pass on, if the old one may go."""
        self._promises.check_revoke(old)
        self._points.call(
            "rotation", "revoke", lambda: self._inner.revoke(old, ctx), effect_of=Step.REVOKE
        )

    def withdraw(self, new: Credential, ctx: StepContext) -> None:
        """Pass on."""
        self._points.call(
            "rotation",
            "withdraw",
            lambda: self._inner.withdraw(new, ctx),
            effect_of=(Step.WITHDRAW, Step.CREATE) if self._promises.draws else Step.WITHDRAW,
        )


class CountingRotationProxy(RotationProxy):
    """A plugin that can count sessions, call by call."""

    def __init__(self, inner: Rotation, points: Points, promises: Promises) -> None:
        super().__init__(inner, points, promises)
        assert isinstance(inner, CountsSessions)
        self._counts: CountsSessions = inner

    def sessions(self, login: str, ctx: StepContext) -> list[Session]:
        """Pass on; nothing may change."""
        with self._promises.nothing_changes("sessions"):
            return self._points.call(
                "rotation", "sessions", lambda: self._counts.sessions(login, ctx)
            )


class ContainingRotationProxy(CountingRotationProxy):
    """A plugin that can contain a leaked password, call by call."""

    def __init__(self, inner: Rotation, points: Points, promises: Promises) -> None:
        super().__init__(inner, points, promises)
        assert isinstance(inner, Contains)
        self._contains: Contains = inner

    def moment(self, ctx: StepContext) -> str:
        """Pass on; nothing may change."""
        with self._promises.nothing_changes("moment"):
            return self._points.call("rotation", "moment", lambda: self._contains.moment(ctx))

    def fence(self, leaked: Credential, ctx: StepContext) -> str:
        """Pass on."""
        return self._points.call(
            "rotation", "fence", lambda: self._contains.fence(leaked, ctx), effect_of=Step.FENCE
        )

    def end_sessions(self, login: str, before: str, ctx: StepContext) -> list[Session]:
        """Pass on; the proof of an incident may end sessions too, outside of a step."""
        return self._points.call(
            "rotation", "end_sessions", lambda: self._contains.end_sessions(login, before, ctx)
        )

    def entrances(
        self, leaked: Credential, current: Credential | None, ctx: StepContext
    ) -> list[Entrance]:
        """Pass on; nothing may change."""
        with self._promises.nothing_changes("entrances"):
            return self._points.call(
                "rotation", "entrances", lambda: self._contains.entrances(leaked, current, ctx)
            )


class DrawingRotationProxy(RotationProxy):
    """A plugin whose target draws the keys, call by call."""

    def __init__(self, inner: Rotation, points: Points, promises: Promises) -> None:
        super().__init__(inner, points, promises)
        assert isinstance(inner, DrawsKeys)
        self._draws: DrawsKeys = inner

    def keys(self, ctx: StepContext) -> list[str]:
        """Pass on; nothing may change."""
        with self._promises.nothing_changes("keys"):
            return self._points.call("rotation", "keys", lambda: self._draws.keys(ctx))

    def draw(self, current: Credential | None, ctx: StepContext) -> Credential:
        """Pass on; what the target drew must be staged before anything else."""
        drawn = self._points.call(
            "rotation", "draw", lambda: self._draws.draw(current, ctx), effect_of=Step.CREATE
        )
        self._promises.remember(drawn)
        self._promises.drawn = drawn
        return drawn


class CountingDrawingRotationProxy(DrawingRotationProxy, CountingRotationProxy):
    """A plugin whose target draws the keys, and that can count sessions, call by call."""


class ContainingDrawingRotationProxy(DrawingRotationProxy, ContainingRotationProxy):
    """A plugin whose target draws the keys, and that can contain a leaked one, call by call."""


_STAGED_FIRST: Final = (RotationProxy, CountingRotationProxy, ContainingRotationProxy)
_DRAWING: Final = (
    DrawingRotationProxy,
    CountingDrawingRotationProxy,
    ContainingDrawingRotationProxy,
)


class DelegatedRotationProxy(RotationProxy, DelegatedRotation):
    """How what another system makes is tried, call by call."""


def rotation_proxy(inner: Rotation, points: Points, promises: Promises) -> RotationProxy:
    """Return a proxy with the abilities of `inner`, and no others."""
    if isinstance(inner, DelegatedRotation):
        return DelegatedRotationProxy(inner, points, promises)
    if isinstance(inner, DrawsKeys):
        plain, counting, containing = _DRAWING
    else:
        plain, counting, containing = _STAGED_FIRST
    if not isinstance(inner, CountsSessions):
        return plain(inner, points, promises)
    kind = containing if isinstance(inner, Contains) else counting
    return kind(inner, points, promises)
