"""Shared runtime of the daemon and the worker.

A changed configuration comes into force as a whole or not at all. After SIGTERM the running steps
end; a second one leaves at once, which is as safe: the journal knows every running step.
"""

from __future__ import annotations

import functools
import os
import socket
import threading
from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from apscheduler.schedulers.background import BackgroundScheduler

from rotator.bootstrap import App, load_settings
from rotator.config.model import ConfigError
from rotator.core.daemon_settings import Topic
from rotator.core.errors import JournalError, RotatorError
from rotator.core.lease_chain import secret_of
from rotator.core.observations import Observation, ObservationKind
from rotator.core.traceback_frames import forget_variables
from rotator.dispatch.worker import notice_of
from rotator.faces.http_server import HttpRequest, HttpResponse, Server
from rotator.faces.signals import Signals
from rotator.logs import get_log
from rotator.metrics import CONTENT_TYPE, Metrics
from rotator.notify import Notifier
from rotator.system import tell_systemd

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

    from rotator.config import Settings
    from rotator.config.watch import Watched
    from rotator.core.model import Event, Json
    from rotator.core.ports import Log
    from rotator.core.worklist import DueEntry

_LOOK_AT_FILE: Final = 2.0
# How often a process reports that it is alive, and after how much silence it counts as dead.
_ALIVE_EVERY: Final = 5.0
_ALIVE_FOR: Final = timedelta(seconds=20)
SILENT: Final = timedelta(seconds=30)
_GLANCE: Final = 0.05
_FORCED: Final = 143
_SCHEDULER: Final[dict[str, Any]] = {
    # A late call runs late, once, and never in two threads.
    "misfire_grace_time": None,
    "coalesce": True,
    "max_instances": 1,
}


@dataclass(slots=True, kw_only=True)
class Generation(ABC):
    """The parts that one reading of the configuration has made."""

    settings: Settings
    app: App
    notifier: Notifier

    @property
    @abstractmethod
    def under_way(self) -> int:
        """The number of running jobs that end with this process."""

    def begin(self) -> None:
        """Start: called once, when it comes into force."""
        self.notifier.start()

    @abstractmethod
    def stop(self) -> None:
        """Start nothing more."""

    def close(self) -> None:
        """Give back every connection."""
        self.notifier.close()
        self.app.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """The report of a process that has begun. `address`: where it serves metrics, if at all."""

    config: Path
    secrets: int
    backends: tuple[str, ...]
    address: str | None
    soonest: DueEntry | None


class Service(ABC):
    """One process. `run` returns its exit code."""

    face: str

    def __init__(self, config: Path, *, begun: Callable[[Begun], None] | None = None) -> None:
        """Read the configuration and open the journal. Raises `ConfigError`, `JournalError`.

        `begun` is called once; without it a line in the log reports the start and the end.
        """
        self._config: Path = config
        self._tell_begun: Callable[[Begun], None] | None = begun
        self._log: Log = get_log()
        self._begun: datetime = datetime.now(UTC)
        self._leaving: threading.Event = threading.Event()
        self._signals: Signals = Signals()
        self._hangups: int = 0
        self._metrics: Metrics = Metrics(self._plugin_of)
        settings = load_settings(config)
        self._watched: Watched = settings.watched
        self._seen: object = self._watched.mark()
        self._made: Generation = self._build(settings)
        self._old: list[Generation] = []

    # -- what differs --------------------------------------------------------------------------

    @abstractmethod
    def _build(self, settings: Settings) -> Generation:
        """Build the parts for these settings."""

    @abstractmethod
    def _listen(self) -> str:
        """Return the address that serves heartbeats, `none` for nowhere."""

    @abstractmethod
    def _timed(self) -> Mapping[Callable[[], None], float]:
        """Return the periodic calls, with the seconds between two of them."""

    @abstractmethod
    def _alive(self) -> bool:
        """Return whether this process works."""

    @abstractmethod
    def _ready(self) -> str | None:
        """Return why nothing can be done now, None when nothing prevents it."""

    @contextmanager
    def _also_serving(self) -> Generator[None]:
        """Serve what only some processes serve, beside heartbeats."""
        yield

    @abstractmethod
    def _start(self) -> None:
        """Start what runs beside the periodic calls."""

    @abstractmethod
    def _last(self) -> None:
        """Finish: called once, after the last step has ended."""

    # -- running -------------------------------------------------------------------------------

    def run(self) -> int:
        """Work until SIGTERM or SIGINT; a second one leaves at once."""
        listen = self._listen()
        server = Server(listen, self._answer) if listen != "none" else None
        scheduler = BackgroundScheduler(job_defaults=_SCHEDULER, timezone="UTC")
        _ = scheduler.add_job(_bordered(self._look_at_file), "interval", seconds=_LOOK_AT_FILE)
        _ = scheduler.add_job(_bordered(self._report_alive), "interval", seconds=_ALIVE_EVERY)
        for work, seconds in self._timed().items():
            _ = scheduler.add_job(_bordered(work), "interval", seconds=seconds)
        with self._signals, self._closing(server), self._also_serving():
            self._begin(self._made)
            self._report_alive()
            self._start()
            scheduler.start()
            if server is not None:
                server.start()
            self._report_begun(server.address if server is not None else None)
            tell_systemd("READY=1")
            self._signals.wait()
            self._leaving.set()
            return self._leave(scheduler)

    @contextmanager
    def _closing(self, server: Server | None) -> Generator[None]:
        try:
            yield
        finally:
            if server is not None:
                server.close()
            for one in self._generations():
                one.close()

    def _report_begun(self, address: str | None) -> None:
        settings = self._made.settings
        if self._tell_begun is None:
            where, count = address or "nowhere", len(settings.secrets)
            self._log.info("serving", secrets=count, listen=where, pid=os.getpid())
            return
        soonest = None
        with suppress(JournalError):  # the dispatcher reports that the journal is away
            soonest = self._made.app.agenda.soonest()
        self._tell_begun(
            Begun(
                config=self._config,
                secrets=len(settings.secrets),
                backends=tuple(settings.backends),
                address=address,
                soonest=soonest,
            )
        )

    def _generations(self) -> list[Generation]:
        return [*self._old, self._made]

    def _close_old(self) -> None:
        """Close the parts of an older configuration, once its last job has ended."""
        for one in [one for one in self._old if not one.under_way]:
            self._old.remove(one)
            one.close()

    def _begin(self, generation: Generation) -> None:
        try:
            generation.begin()
        except RotatorError as error:
            self._log.error("begin", what=error.what)  # its text is made for people

    def _report_alive(self) -> None:
        """Report to every other process, such as `rotator status`, that this one is alive."""
        app = self._made.app
        now = app.clock.now()
        data: dict[str, Json] = {
            "face": self.face,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": self._begun.isoformat(),
            "jobs": self._under_way(),
        }
        seen = Observation(
            kind=ObservationKind.PROCESS,
            subject=_process(),
            at=now,
            until=now + _ALIVE_FOR,
            data=data,
        )
        with suppress(JournalError):  # the dispatcher reports that the journal is away
            _ = app.observations.put(seen)

    # -- the configuration ---------------------------------------------------------------------

    def _look_at_file(self) -> None:
        mark, hangups = self._watched.mark(), self._signals.hangups
        if mark != self._seen or hangups != self._hangups:
            self._hangups = hangups
            self._seen = mark
            before = self._watched
            self._read_again()
            if self._watched != before:
                # A file that is included from now on may have changed since it was read.
                self._seen = None

    def _read_again(self) -> None:
        """Put a new configuration in force; an invalid one changes nothing."""
        try:
            settings = load_settings(self._config)
            self._watched = settings.watched
            new = self._build(settings)
        except RotatorError as error:
            if isinstance(error, ConfigError):
                self._watched += error.watched
            self._metrics.reloaded.set(0)
            self._log.error("configuration refused", what=str(error))  # it names file and line
            self._made.notifier.tell(Topic.CONFIG_REFUSED, "", {"what": error.what})
            return
        old, self._made = self._made, new
        old.stop()
        self._old.append(old)
        self._begin(new)
        self._metrics.reloaded.set(1)
        self._log.info("configuration in force", secrets=len(settings.secrets))

    # -- events, in the threads that work ------------------------------------------------------

    def _observe(self, event: Event) -> None:
        self._metrics.observe(event)
        notice = notice_of(event)
        if notice is not None:
            topic, data = notice
            secret = secret_of(event.secret) or event.secret
            self._made.notifier.tell(topic, secret, data)

    def _plugin_of(self, secret: str) -> str:
        settings = self._made.settings
        chosen = settings.secrets.get(secret)
        return settings.targets[chosen.target].plugin if chosen is not None else "?"

    # -- leaving -------------------------------------------------------------------------------

    def _under_way(self) -> int:
        return sum(one.under_way for one in self._generations())

    def _leave(self, scheduler: BackgroundScheduler) -> int:
        """Wait for the running steps, for a limited time."""
        tell_systemd("STOPPING=1")
        for one in self._generations():
            one.stop()
        scheduler.shutdown(wait=False)
        self._log.info("leaving", under_way=self._under_way())
        clock = self._made.app.clock
        until = clock.monotonic() + self._made.settings.daemon.shutdown.total_seconds()
        while self._under_way() and clock.monotonic() < until:
            clock.sleep(_GLANCE)
        self._last()
        left = self._under_way()
        if left:
            self._log.warning("left in the middle of steps", count=left)
            os._exit(_FORCED)
        with suppress(JournalError):
            _ = self._made.app.observations.remove(ObservationKind.PROCESS, _process())
        if self._tell_begun is None:
            self._log.info("left")
        return 0

    # -- heartbeats -------------------------------------------------------------------------

    def _answer(self, request: HttpRequest) -> HttpResponse:
        path = request.path
        if path == "/metrics":
            return HttpResponse(status=200, content=self._metrics.text(), kind=CONTENT_TYPE)
        if path == "/healthz":
            if self._alive():
                return HttpResponse.text(200, "alive")
            return HttpResponse.text(503, "has not looked lately")
        if path == "/readyz":
            why = "leaving" if self._leaving.is_set() else self._ready()
            return HttpResponse.text(200, "ready") if why is None else HttpResponse.text(503, why)
        return HttpResponse.text(404, "not found; there are /healthz, /readyz and /metrics")


def _bordered(work: Callable[[], None]) -> Callable[[], None]:
    """Return the call with errors stripped of their variables: the scheduler logs them."""

    @functools.wraps(work)
    def bordered() -> None:
        try:
            work()
        except Exception as error:
            forget_variables(error)
            raise

    return bordered


def _process() -> str:
    """Return the name of this process for operators, such as `vm/15611`."""
    return f"{socket.gethostname()}/{os.getpid()}"
