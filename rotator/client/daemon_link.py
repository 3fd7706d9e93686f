"""One credential's link to the daemon: what it acknowledges, and the news of a published version."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Final

from rotator.client.chance import between
from rotator.client.daemon import PREPARED, Daemon, DaemonError, News
from rotator.client.log import warn
from rotator.client.login import LEVELS

# Seconds that the daemon may hold a question back while nothing changes.
_WAIT: Final = 25.0
# Seconds until the daemon is asked again after an error: doubled each time.
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 15.0
# Seconds until a backend that lags behind the daemon is read again: doubled each time.
_FIRST_LAG: Final = 0.1
_LONGEST_LAG: Final = 5.0
# A daemon that answers without waiting is asked no more often than this, in seconds.
_SHORTEST_ROUND: Final = 1.0


def new_instance() -> str:
    """Return a name for this process: its host, its number and six digits of chance."""
    return f"{os.uname().nodename}:{os.getpid()}:{os.urandom(3).hex()}"


class DaemonLink:
    """Acknowledges the versions of one secret, and waits for the next one. Safe between threads."""

    def __init__(self, daemon: Daemon, secret: str) -> None:
        """`secret` is its name in rotator's configuration."""
        self._daemon: Daemon = daemon
        self._secret: str = secret
        self._lock: threading.Lock = threading.Lock()
        self._version: str | None = None
        self._level: str = LEVELS[0]
        self._poll_error: str | None = None
        # The rotation of the version that comes next, by the daemon; and of the one that was read.
        self._following: str = ""
        self._prepared: str = ""
        # Seconds that the daemon may hold the next question back.
        self._wait: float = _WAIT
        self.instance: str = new_instance()

    @property
    def error(self) -> str | None:
        """Why the daemon cannot be asked, or does not take what is acknowledged."""
        return self._poll_error or self._daemon.error

    def acknowledge(self, version: str, level: str) -> None:
        """Acknowledge that this process has a version at a level, or at a higher one already."""
        with self._lock:
            is_lower = LEVELS.index(level) < LEVELS.index(self._level)
            if version != self._version or not is_lower:
                self._version, self._level = version, level
            level = self._level
        self._daemon.acknowledge(
            self._secret, version, level, instance=self.instance, kind="client"
        )

    @property
    def following(self) -> str:
        """The rotation of the version that comes next, as the daemon announced it; empty for none."""
        return self._following

    @property
    def _is_unread(self) -> bool:
        """Whether a next version is announced that this process has not read."""
        return self._following not in ("", self._prepared)

    def prepared(self, rotation: str) -> None:
        """Acknowledge that this process has read the next version, if the daemon announced it."""
        with self._lock:
            if rotation != self._following:
                return
            self._prepared = rotation
        self._daemon.acknowledge(
            self._secret, rotation, PREPARED, instance=self.instance, kind="client"
        )

    def follow(
        self,
        version: Callable[[], str],
        read: Callable[[], None],
        read_next: Callable[[str], None],
        closed: threading.Event,
    ) -> None:
        """Call `read` whenever another version than `version` is published, until `closed`.

        `read_next` is called with the rotation of the version that comes next, and with nothing once
        there is none.
        """
        pause, lag = _FIRST_PAUSE, _FIRST_LAG
        while not closed.is_set():
            known, begun = version(), time.monotonic()
            news = self._news(known)
            if news is None:
                _ = closed.wait(between(pause / 2, pause))
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            pause = _FIRST_PAUSE
            published = news.versions.get(self._secret, known)
            following = news.following.get(self._secret, "")
            is_new = following != self._following
            with self._lock:
                self._following = following
            # First what is published: until it is read, the version that came next is what logs in.
            if published != known:
                read()
            if self._is_unread or (is_new and published == known):
                read_next(following)
            # A backend that lags, or that does not show the next version, is read again, ever later.
            again = _SHORTEST_ROUND if is_new else min(2 * self._wait, _WAIT)
            self._wait = again if self._is_unread else _WAIT
            if published == known:
                self._repeat()
                if not is_new:
                    _ = closed.wait(max(0.0, begun + _SHORTEST_ROUND - time.monotonic()))
                continue
            if version() == published:
                lag = _FIRST_LAG
            else:
                _ = closed.wait(between(lag / 2, lag))
                lag = min(lag * 2, _LONGEST_LAG)

    def _news(self, known: str) -> News | None:
        """Return what is published and what comes next, at the latest after some seconds.

        None after an error.
        """
        following = {self._secret: self._following}
        try:
            news = self._daemon.news({self._secret: known}, following, self._wait)
        except Exception as error:  # noqa: BLE001 # the thread that hears of all later versions
            is_expected = isinstance(error, DaemonError)
            text = str(error) if is_expected else f"{self._daemon!r}: {type(error).__name__}."
            if text != self._poll_error:
                warn("new versions are read by `refresh` alone: %s", text)
            self._poll_error = text
            return None
        self._poll_error = None
        return news

    def _repeat(self) -> None:
        """Acknowledge again, so that the registry knows that this process lives."""
        with self._lock:
            version, level, prepared = self._version, self._level, self._prepared
        if version is not None:
            self.acknowledge(version, level)
        if prepared:
            self.prepared(prepared)  # unless the daemon announces another one by now

    def start_anew(self) -> None:
        """A forked process is another instance."""
        self._lock = threading.Lock()
        self._version, self._level = None, LEVELS[0]
        self._following, self._prepared, self._wait = "", "", _WAIT
        self.instance = new_instance()
