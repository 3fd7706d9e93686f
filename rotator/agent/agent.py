"""Keeps the sinks of a host up to date, and knows the current value of each secret."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from rotator.agent.errors import SinkError
from rotator.agent.sinks import Sink
from rotator.client import SourceError
from rotator.core.consumers import instance_name
from rotator.core.errors import RotatorError

if TYPE_CHECKING:
    from rotator.agent.sources import Consumer
    from rotator.client import Login

_log = logging.getLogger("rotator.agent")
_FIRST_RETRY: Final = 1.0
_LAST_RETRY: Final = 60.0
# Seconds between two looks at a file that somebody else may have changed, and two heartbeats.
_LOOK: Final = 30.0
# Seconds between two reads of the next version, and two looks at whether one was read.
_NEXT_READS: Final = 1.0
_NEXT_LOOK: Final = 0.2


class Agent:
    """Applies each new value to each sink. Nothing is cached on disk: a restart reads the backend."""

    def __init__(self, consumer: Consumer, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is read yet. Raises `UsageError` for an unknown user or group of a sink."""
        self._consumer: Consumer = consumer
        self._clock: Callable[[], float] = clock
        self._sinks: dict[str, list[Sink]] = {
            name: [Sink(name, options, consumer.resolve) for options in secret.sinks]
            for name, secret in consumer.options.secrets.items()
        }
        self._changed: threading.Condition = threading.Condition()
        self._unready: set[str] = set(self._sinks)
        self._errors: dict[str, str] = {}
        self._next_read_at: dict[str, float] = {}

    @property
    def consumer(self) -> Consumer:
        """The secrets and the daemon."""
        return self._consumer

    def start(self) -> None:
        """Keep every secret up to date, each in a thread of its own."""
        self._consumer.follow_daemon()
        for name in self._sinks:
            threading.Thread(target=self._keep, args=(name,), daemon=True).start()

    def stop(self) -> None:
        """End the threads, each after the step that it is in."""
        self._consumer.close()
        with self._changed:
            self._changed.notify_all()

    def wait_until_ready(self, timeout: float | None = None) -> bool:
        """Return True once every sink holds its value; False after `timeout` seconds or `stop`."""
        with self._changed:
            _ = self._changed.wait_for(
                lambda: not self._unready or self._consumer.closed.is_set(), timeout
            )
            return not self._unready

    def errors(self) -> dict[str, str]:
        """Return why secrets are not up to date, by name; no secret is in the texts."""
        with self._changed:
            return dict(self._errors)

    def run_once(self, timeout: float) -> dict[str, str]:
        """Bring every sink up to date; return what failed after `timeout` seconds, by secret."""
        deadline, pause = self._clock() + timeout, _FIRST_RETRY
        while True:
            failed = [name for name in self._sinks if not self._bring(name)]
            left = deadline - self._clock()
            if not failed or left <= 0:
                return self.errors()
            _ = self._consumer.closed.wait(min(pause, left))
            pause = min(pause * 2, _LAST_RETRY)

    def next_of(self, name: str, *, read: bool) -> Login | None:
        """Return the version that comes next, where there is one.

        `read`: ask the backend where no daemon announces it, at most once a second. Raises `SourceError`.
        """
        credential = self._consumer.credentials[name]
        if read and self._consumer.daemon is None:
            with self._changed:
                is_due = self._clock() - self._next_read_at.get(name, -_NEXT_READS) >= _NEXT_READS
                if is_due:
                    self._next_read_at[name] = self._clock()
            if is_due:
                return credential.read_next()
        return credential.following

    def wait_for_change(
        self, name: str, known: str, timeout: float, following: str | None = None
    ) -> Login:
        """Return the current value as soon as its version is not `known`, or after `timeout` seconds.

        `following`: also as soon as another rotation than this prepares the next version. Raises `SourceError` where nothing was ever read.
        """
        credential = self._consumer.credentials[name]
        deadline = self._clock() + timeout
        with self._changed:
            while True:
                login = credential.current()
                left = deadline - self._clock()
                is_news = login.version != known or (
                    following is not None and following != _rotation_of(credential.following)
                )
                if is_news or left <= 0 or self._consumer.closed.is_set():
                    return login
                _ = self._changed.wait(left if following is None else min(left, _NEXT_LOOK))

    def _keep(self, name: str) -> None:
        wake = threading.Event()

        def changed(_login: Login) -> None:
            wake.set()
            with self._changed:
                self._changed.notify_all()

        _ = self._consumer.credentials[name].on_change(changed)
        failures = 0
        while not self._consumer.closed.is_set():
            wake.clear()
            failures = 0 if self._bring(name) else failures + 1
            pause = min(_FIRST_RETRY * 2 ** (failures - 1), _LAST_RETRY) if failures else _LOOK
            _ = wake.wait(pause)

    def _bring(self, name: str) -> bool:
        """Apply the current value to each sink of a secret; one that fails does not stop the others."""
        errors: list[str] = []
        try:
            login = self._consumer.credentials[name].current()
        except SourceError as error:
            errors.append(str(error))
        else:
            errors += [
                text for sink in self._sinks[name] if (text := self._apply(name, sink, login))
            ]
        text = " ".join(errors)
        with self._changed:
            before = self._errors.pop(name, "")
            if text:
                self._errors[name] = text
            else:
                self._unready.discard(name)
                self._changed.notify_all()
        if text and text != before:
            _log.warning("%s: %s", name, text)
        return not text

    def _apply(self, name: str, sink: Sink, login: Login) -> str:
        try:
            level = sink.apply(login)
        except RotatorError as error:
            return str(error)
        except OSError as error:
            # Its text may repeat the name of a file only; the class is enough.
            return str(SinkError(f"{sink.path} could not be written: {error.strerror}."))
        if self._consumer.daemon is not None:
            self._consumer.daemon.acknowledge(
                name,
                login.version,
                level,
                instance=instance_name(socket.gethostname(), str(sink.path)),
                kind=sink.kind,
            )
        return ""


def _rotation_of(following: Login | None) -> str:
    """Return which rotation is to publish the next version; empty where there is none."""
    return "" if following is None else following.rotation or following.version
