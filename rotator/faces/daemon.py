"""`rotator daemon`: rotates what is due, second by second, until it is told to leave.

One thread of APScheduler looks what is to be done, others do it; a small server on loopback says how
things are. A changed configuration is taken in as a whole or not at all.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from apscheduler.schedulers.background import BackgroundScheduler

from rotator.bootstrap import App, load_settings
from rotator.core.errors import RotatorError
from rotator.core.model import Kind
from rotator.core.serving import Topic
from rotator.core.stopping import Stopped
from rotator.dispatch.worker import topic_of
from rotator.faces.web import Answer, Server
from rotator.metrics import CONTENT_TYPE, Metrics, Standing
from rotator.notify import Notifier
from rotator.observe import get_log

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path
    from types import FrameType

    from rotator.config import Settings
    from rotator.core.model import Event, Json
    from rotator.core.ports import Log
    from rotator.dispatch.dispatcher import Dispatcher

_TICK: Final = 1.0
_LOOK_AT_FILE: Final = 2.0
# A daemon that has not looked for so long is not alive.
_SILENT: Final = timedelta(seconds=30)
_OVERDUE: Final = timedelta(days=1)
_GLANCE: Final = 0.05
_FORCED: Final = 143
# After these nothing is left to do that a stop could spare.
_LAST_WORDS: Final = (Kind.ENDED, Kind.PARKED)
_SCHEDULER: Final[dict[str, Any]] = {
    # A look that is late is made late, once, and never by two at the same time.
    "misfire_grace_time": None,
    "coalesce": True,
    "max_instances": 1,
}


@dataclass(slots=True, kw_only=True)
class _Generation:
    """What was built from one reading of the configuration."""

    settings: Settings
    app: App
    dispatcher: Dispatcher
    notifier: Notifier

    def close(self) -> None:
        self.notifier.close()
        self.app.close()


class Daemon:
    """One process. `run` returns its exit code."""

    def __init__(self, config: Path) -> None:
        """Read the configuration and open the journal. Raises `ConfigError`, `JournalError`."""
        self._config: Path = config
        self._log: Log = get_log()
        self._leaving: threading.Event = threading.Event()
        self._reload: threading.Event = threading.Event()
        self._metrics: Metrics = Metrics(self._plugin_of)
        settings = load_settings(config)
        self._seen: object = _mark(config)
        self._pool: ThreadPoolExecutor = ThreadPoolExecutor(
            settings.daemon.limits.total, thread_name_prefix="work"
        )
        self._generation: _Generation = self._build(settings)
        self._old: list[_Generation] = []
        self._metrics.registry.register(
            Standing(
                lambda: self._generation.app.agenda,
                self._now,
                _OVERDUE,
                self._jobs,
                self._away,
            )
        )

    def run(self) -> int:
        """Work until SIGTERM or SIGINT; a second one leaves at once."""
        duty = self._generation.settings.daemon
        server = Server(duty.listen, self._answer) if duty.listen != "none" else None
        scheduler = BackgroundScheduler(job_defaults=_SCHEDULER, timezone="UTC")
        scheduler.add_job(self._tick, "interval", seconds=_TICK)
        scheduler.add_job(self._look_at_file, "interval", seconds=_LOOK_AT_FILE)
        every = duty.checkpoint_every.total_seconds()
        scheduler.add_job(self._sign, "interval", seconds=every)
        before = self._listen_to_signals()
        try:
            self._generation.notifier.start()
            self._begin(self._generation)
            self._tick()
            scheduler.start()
            if server is not None:
                server.start()
            where = server.address if server is not None else "nowhere"
            count = len(self._generation.settings.secrets)
            self._log.info("serving", secrets=count, listen=where, pid=os.getpid())
            _tell_systemd("READY=1")
            _ = self._leaving.wait()
            return self._leave(scheduler)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if server is not None:
                server.close()
            for one in (*self._old, self._generation):
                one.close()

    # -- looking, in the scheduler's thread ----------------------------------------------------

    def _tick(self) -> None:
        try:
            self._generation.dispatcher.tick()
            for one in [one for one in self._old if not one.dispatcher.running]:
                self._old.remove(one)
                one.close()
        except RotatorError as error:
            self._log.error("tick", what=error.what)  # it is said, and tried again in a second
        _tell_systemd("WATCHDOG=1")

    def _begin(self, generation: _Generation) -> None:
        try:
            generation.dispatcher.begin()
        except RotatorError as error:
            self._log.error("begin", what=error.what)  # as above

    def _sign(self) -> None:
        app = self._generation.app
        try:
            if app.checkpoint() is not None:
                self._metrics.checkpoint.set(app.clock.now().timestamp())
        except RotatorError as error:
            self._log.error("checkpoint", what=error.what)  # as above
            if error.kind == "journal-broken":
                self._generation.notifier.tell(Topic.JOURNAL_BROKEN, "", {"what": error.what})

    def _look_at_file(self) -> None:
        mark = _mark(self._config)
        if mark != self._seen or self._reload.is_set():
            self._reload.clear()
            self._seen = mark
            self._read_again()

    def _read_again(self) -> None:
        """Put a new configuration in force; when it is bad the old one stays."""
        try:
            settings = load_settings(self._config)
            new = self._build(settings)
        except RotatorError as error:
            self._metrics.reloaded.set(0)
            self._log.error("configuration refused", what=str(error))  # it names file and line
            self._generation.notifier.tell(Topic.CONFIG_REFUSED, "", {"what": error.what})
            return
        old, self._generation = self._generation, new
        old.dispatcher.stop()
        self._old.append(old)
        new.notifier.start()
        self._begin(new)
        self._metrics.reloaded.set(1)
        self._log.info("configuration in force", secrets=len(settings.secrets))

    def _build(self, settings: Settings) -> _Generation:
        app = App(settings, face="daemon", observer=self._observe)
        notifier = Notifier(settings.notifications, app.resolve, self._log)
        dispatcher = app.dispatcher(pool=self._pool, tell=notifier.tell)
        return _Generation(settings=settings, app=app, dispatcher=dispatcher, notifier=notifier)

    # -- events, in the threads that work ------------------------------------------------------

    def _observe(self, event: Event) -> None:
        self._metrics.observe(event)
        topic = topic_of(event.kind, event.data)
        if topic is not None:
            shown = ("outcome", "what", "reason", "next_due", "login", "version")
            data: dict[str, Json] = {key: event.data[key] for key in shown if key in event.data}
            data["rotation_id"] = event.rotation_id
            self._generation.notifier.tell(topic, event.secret, data)
        if self._leaving.is_set() and event.kind not in _LAST_WORDS:
            raise Stopped

    def _plugin_of(self, secret: str) -> str:
        settings = self._generation.settings
        chosen = settings.secrets.get(secret)
        return settings.targets[chosen.target].plugin if chosen is not None else "?"

    # -- leaving -------------------------------------------------------------------------------

    def _listen_to_signals(self) -> Mapping[int, Any]:
        before: dict[int, Any] = {}
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, self._on_leave)
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._on_hangup)
        return before

    def _on_leave(self, number: int, _frame: FrameType | None) -> None:
        if self._leaving.is_set():
            # What is under way is in the journal: the next process goes on with it.
            os._exit(128 + number)
        self._leaving.set()

    def _on_hangup(self, _number: int, _frame: FrameType | None) -> None:
        self._reload.set()

    def _leave(self, scheduler: BackgroundScheduler) -> int:
        """Let the steps that are under way end, within the time for it."""
        _tell_systemd("STOPPING=1")
        generations = [*self._old, self._generation]
        for one in generations:
            one.dispatcher.stop()
        scheduler.shutdown(wait=False)
        running = sum(one.dispatcher.running for one in generations)
        self._log.info("leaving", under_way=running)
        clock = self._generation.app.clock
        until = clock.monotonic() + self._generation.settings.daemon.shutdown.total_seconds()
        while any(one.dispatcher.running for one in generations) and clock.monotonic() < until:
            clock.sleep(_GLANCE)
        self._sign()
        left = sum(one.dispatcher.running for one in generations)
        if left:
            self._log.warning("left in the middle of steps", count=left)
            os._exit(_FORCED)
        self._pool.shutdown(wait=False)
        self._log.info("left")
        return 0

    # -- signs of life -------------------------------------------------------------------------

    def _now(self) -> datetime:
        return self._generation.app.clock.now()

    def _away(self) -> Mapping[str, datetime]:
        return self._generation.dispatcher.hosts_away()

    def _jobs(self) -> dict[str, int]:
        generations = [*self._old, self._generation]
        return {
            "running": sum(one.dispatcher.running for one in generations),
            "waiting": self._generation.dispatcher.waiting,
        }

    def _answer(self, path: str) -> Answer:
        if path == "/metrics":
            return Answer(status=200, content=self._metrics.text(), kind=CONTENT_TYPE)
        if path == "/healthz":
            ticked = self._generation.dispatcher.looked_at
            now = self._generation.app.clock.now()
            alive = ticked is not None and now - ticked < _SILENT
            return Answer.text(200 if alive else 503, "alive" if alive else "has not looked lately")
        if path == "/readyz":
            return self._ready()
        return Answer.text(404, "not found; there are /healthz, /readyz and /metrics")

    def _ready(self) -> Answer:
        if self._leaving.is_set():
            return Answer.text(503, "leaving")
        ticked = self._generation.dispatcher.ticked_at
        if ticked is None or self._generation.app.clock.now() - ticked > _SILENT:
            return Answer.text(503, "the audit journal does not answer: nothing is done")
        return Answer.text(200, "ready")


def _mark(config: Path) -> object:
    """Return what changes when the file does, also where it is replaced by a link to another."""
    try:
        found = config.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _tell_systemd(state: str) -> None:
    """Pass a word on to systemd, where it has started us (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
            link.connect(address)
            link.sendall(state.encode())
    except OSError:
        pass
