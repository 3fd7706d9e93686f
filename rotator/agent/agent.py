"""Keeps the sinks of a host up to date, and knows the current value of each secret."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from rotator import system
from rotator.agent.errors import SinkError, SinkWaits
from rotator.agent.sinks import KeepsUpToDate, Sink
from rotator.client import SourceError
from rotator.core.errors import RotatorError
from rotator.logs import get_log

if TYPE_CHECKING:
    from rotator.agent.settings import AgentOptions
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
        """Nothing is read yet.

        Raises `UsageError` for an unknown user or group of a sink, and where it has no access to a
        cluster that a sink needs.
        """
        self._consumer: Consumer = consumer
        self._clock: Callable[[], float] = clock
        self._sinks: dict[str, list[KeepsUpToDate]] = _sinks(consumer)
        self._changed: threading.Condition = threading.Condition()
        self._unready: set[str] = set(self._sinks)
        self._errors: dict[str, str] = {}
        self._waits: dict[str, str] = {}
        self._next_read_at: dict[str, float] = {}
        self._read: dict[str, str] = {}

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

    def waits(self) -> dict[str, str]:
        """Return for what secrets wait, such as a rollout, by name."""
        with self._changed:
            return dict(self._waits)

    def run_once(self, timeout: float) -> dict[str, str]:
        """Bring every sink up to date; return what failed after `timeout` seconds, by secret."""
        deadline, pause = self._clock() + timeout, _FIRST_RETRY
        while True:
            asked = {name: self.bring(name) for name in self._sinks}
            pauses = [seconds for seconds in asked.values() if seconds is not None]
            left = deadline - self._clock()
            if not pauses or left <= 0:
                return {**self.waits(), **self.errors()}
            wanted = min(seconds or pause for seconds in pauses)
            _ = self._consumer.closed.wait(min(wanted, left))
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
            asked = self.bring(name)
            failures = failures + 1 if asked == 0 else 0
            backoff = min(_FIRST_RETRY * 2 ** (failures - 1), _LAST_RETRY)
            _ = wake.wait(_LOOK if asked is None else asked or backoff)

    def bring(self, name: str) -> float | None:
        """Apply the current value to each sink of a secret; one that fails does not stop the others.

        Return None where all are up to date, else the seconds until one of them wants another look;
        0 where one failed, and the caller decides.
        """
        errors: list[str] = []
        waits: list[SinkWaits] = []
        try:
            login = self._consumer.credentials[name].current()
        except SourceError as error:
            errors.append(str(error))
        else:
            self._note_read(name, login.version)
            for sink in self._sinks[name]:
                try:
                    self._apply(name, sink, login)
                except SinkWaits as wait:
                    waits.append(wait)
                except (RotatorError, SourceError) as error:
                    errors.append(str(error))
        self._note(name, " ".join(errors), " ".join(map(str, waits)))
        if not errors and not waits:
            return None
        return min((wait.pause for wait in waits), default=0.0)

    def _note_read(self, name: str, version: str) -> None:
        """Log that a version was read, once: `access ingest --from agent` counts these lines."""
        with self._changed:
            if self._read.get(name) == version:
                return
            self._read[name] = version
        path = self._consumer.options.secrets[name].path or name
        host = socket.gethostname()
        get_log().info(
            "read", secret=name, path=path, version=version, reader=system.actor("agent"), host=host
        )

    def _note(self, name: str, error: str, wait: str) -> None:
        with self._changed:
            before = self._errors.pop(name, "")
            waited = self._waits.pop(name, "")
            if error:
                self._errors[name] = error
            if wait:
                self._waits[name] = wait
            if not error and not wait:
                self._unready.discard(name)
                self._changed.notify_all()
        if error and error != before:
            _log.warning("%s: %s", name, error)
        if wait and wait != waited:
            _log.info("%s: %s", name, wait)

    def _apply(self, name: str, sink: KeepsUpToDate, login: Login) -> None:
        try:
            sink.bring(login, partial(self._acknowledge, name, sink.kind))
        except OSError as error:
            # Its text may repeat the name of a file only; the class is enough.
            raise SinkError(f"{sink.name} could not be written: {error.strerror}.") from None

    def _acknowledge(self, secret: str, kind: str, version: str, instance: str, level: str) -> None:
        if self._consumer.daemon is not None:
            self._consumer.daemon.acknowledge(secret, version, level, instance=instance, kind=kind)


def _sinks(consumer: Consumer) -> dict[str, list[KeepsUpToDate]]:
    found: dict[str, list[KeepsUpToDate]] = {
        name: [
            Sink(name, options, consumer.resolve)
            for options in secret.sinks
            if options.kubernetes is None
        ]
        for name, secret in consumer.options.secrets.items()
    }
    if _uses_a_cluster(consumer.options):
        # Others need neither TLS nor the client of the API.
        from rotator.agent.kubernetes.open import open_sinks  # noqa: PLC0415 # as above

        for name, sinks in open_sinks(consumer).items():
            found[name] += sinks
    return found


def _uses_a_cluster(options: AgentOptions) -> bool:
    sinks = (sink for secret in options.secrets.values() for sink in secret.sinks)
    return any(sink.kubernetes is not None for sink in sinks)


def _rotation_of(following: Login | None) -> str:
    """Return which rotation is to publish the next version; empty where there is none."""
    return "" if following is None else following.rotation or following.version
