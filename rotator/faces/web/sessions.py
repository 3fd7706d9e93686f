"""Who is signed in: sessions in memory, and the limit on failed sign-ins."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from rotator.core.access import Actor
    from rotator.core.ports import Clock

_MOST_SESSIONS: Final = 10_000
_WINDOW: Final = timedelta(minutes=5)
# Failed sign-ins within the window: from one address, and for one name from anywhere.
_MOST_FROM_ADDRESS: Final = 10
_MOST_FOR_NAME: Final = 20
_MOST_KEYS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who sends a request. `token`: what a form of theirs must hold. `expires` None: by each request."""

    actor: Actor
    token: str = field(repr=False)
    expires: datetime | None = None


class Sessions:
    """Sessions of people who are signed in. They end with the process: nothing is written."""

    def __init__(self, clock: Clock, lasts: timedelta) -> None:
        """Nobody is signed in."""
        self._clock: Clock = clock
        self._lasts: timedelta = lasts
        self._guard: threading.Lock = threading.Lock()
        self._by_key: dict[str, Principal] = {}
        self._secret: bytes = secrets.token_bytes(32)

    def begin(self, actor: Actor) -> str:
        """Return the id of a new session: what the cookie holds, and nothing else knows."""
        id_, now = secrets.token_urlsafe(32), self._clock.now()
        found = Principal(actor=actor, token=secrets.token_urlsafe(32), expires=now + self._lasts)
        with self._guard:
            for key in [
                key for key, one in self._by_key.items() if one.expires and one.expires <= now
            ]:
                del self._by_key[key]
            while len(self._by_key) >= _MOST_SESSIONS:
                del self._by_key[next(iter(self._by_key))]
            self._by_key[_key(id_)] = found
        return id_

    def find(self, id_: str) -> Principal | None:
        """Return whose session this is; None for one that is unknown or has expired."""
        with self._guard:
            found = self._by_key.get(_key(id_))
        if found is None or (found.expires is not None and found.expires <= self._clock.now()):
            return None
        return found

    def end(self, id_: str) -> None:
        """End a session."""
        with self._guard:
            _ = self._by_key.pop(_key(id_), None)

    def token_of(self, text: str) -> str:
        """Return the token of a form that belongs to no session: of a proxy's user, or of the sign-in."""
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()


class Throttle:
    """Counts failed sign-ins, and refuses further ones for a while."""

    def __init__(self, clock: Clock) -> None:
        """Nothing has failed."""
        self._clock: Clock = clock
        self._guard: threading.Lock = threading.Lock()
        self._failed: dict[str, deque[datetime]] = {}

    def wait(self, address: str, name: str) -> timedelta | None:
        """Return how long to wait before the next try; None for not at all."""
        now, waits = self._clock.now(), list[timedelta]()
        with self._guard:
            for key, most in _limits(address, name):
                failed = self._recent(key, now)
                if len(failed) >= most:
                    waits.append(failed[-most] + _WINDOW - now)
        return max(waits, default=None)

    def failed(self, address: str, name: str) -> None:
        """Count a failed sign-in."""
        now = self._clock.now()
        with self._guard:
            for key, most in _limits(address, name):
                failed = self._recent(key, now)
                failed.append(now)
                while len(failed) > most:
                    _ = failed.popleft()
                if len(self._failed) >= _MOST_KEYS and key not in self._failed:
                    del self._failed[next(iter(self._failed))]
                self._failed[key] = failed

    def succeeded(self, address: str, name: str) -> None:
        """Take back what `failed` counted last: the sign-in has succeeded."""
        with self._guard:
            for key, _ in _limits(address, name):
                if failed := self._failed.get(key):
                    _ = failed.pop()

    def _recent(self, key: str, now: datetime) -> deque[datetime]:
        return deque(one for one in self._failed.get(key, ()) if now - one < _WINDOW)


def _limits(address: str, name: str) -> Iterable[tuple[str, int]]:
    yield f"address {address}", _MOST_FROM_ADDRESS
    yield f"name {_key(name)}", _MOST_FOR_NAME


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
