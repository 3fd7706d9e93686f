"""`rotator daemon`: rotates what is due, every second, until SIGTERM.

A thread of APScheduler dispatches jobs; other threads do them, or the workers of a queue.
"""

from __future__ import annotations

import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, cast

from rotator.bootstrap import App
from rotator.core.daemon_settings import Dispatch, Topic
from rotator.core.errors import JournalBroken, RotatorError, UsageError
from rotator.core.history import text
from rotator.core.model import Kind, Step
from rotator.faces.consumer_leases import ConsumerLeases
from rotator.faces.consumer_reports import ConsumerReports, ReportingConsumers
from rotator.faces.http_server import Server
from rotator.faces.leak_reports import PREFIX, LeakReports
from rotator.faces.login_looks import LoginLooks
from rotator.faces.service import SILENT, Generation, Service
from rotator.metrics import StateCollector
from rotator.notify import Notifier
from rotator.system import tell_systemd

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from datetime import datetime
    from pathlib import Path

    from rotator.config import Settings
    from rotator.core.daemon_settings import ReportListener
    from rotator.core.model import Event
    from rotator.dispatch.dispatcher import Dispatcher
    from rotator.faces.http_server import HttpRequest, HttpResponse
    from rotator.faces.service import Begun

_TICK: Final = 1.0
_COLLECT: Final = 0.25
_COUNT_WORKERS: Final = 10.0
_LOOK_AT_LOGINS: Final = 60.0
_OVERDUE: Final = timedelta(days=1)


@dataclass(slots=True, kw_only=True)
class _Dispatching(Generation):
    """A generation that dispatches due work."""

    dispatcher: Dispatcher
    reporting: ReportingConsumers

    @property
    def under_way(self) -> int:
        return self.dispatcher.running if self.dispatcher.busy else 0

    def begin(self) -> None:
        super(_Dispatching, self).begin()
        self.dispatcher.begin()

    def stop(self) -> None:
        self.dispatcher.stop()


class Daemon(Service):
    """One process. `run` returns its exit code."""

    face: str = "daemon"

    def __init__(self, config: Path, *, begun: Callable[[Begun], None] | None = None) -> None:
        """Read the configuration and open the journal. Raises `ConfigError`, `JournalError`."""
        self._pool: ThreadPoolExecutor | None = None
        super().__init__(config, begun=begun)
        self._reports: ConsumerReports = ConsumerReports(
            consumers=lambda: self._generation.reporting,
            registry=lambda: self._generation.app.consumers,
            on_news=self._wake,
            leases=ConsumerLeases(lambda: self._generation.app),
        )
        self._leaks: LeakReports = LeakReports(
            app=lambda: self._generation.app,
            tell=lambda topic, secret, data: self._generation.notifier.tell(topic, secret, data),  # noqa: PLW0108 # of the configuration in force
            log=self._log,
        )
        self._logins: LoginLooks = LoginLooks(self._log, self._leaving.is_set)
        self._metrics.registry.register(
            StateCollector(
                lambda: self._generation.app.agenda,
                self._now,
                _OVERDUE,
                self._jobs,
                self._away,
                lambda: self._generation.app.overview.fleet().counts(),
                self._instances,
                lambda: self._generation.app.journal.leases.counts(),  # noqa: PLW0108 # of the configuration in force
            )
        )

    @property
    def _generation(self) -> _Dispatching:
        return cast("_Dispatching", self._made)

    def _build(self, settings: Settings) -> Generation:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(settings.daemon.limits.total, thread_name_prefix="work")
        stop = self._leaving.is_set
        app = App(settings, face="daemon", observer=self._observe, should_stop=stop)
        notifier = Notifier(settings.notifications, app.resolve, self._log)
        try:
            dispatcher = app.dispatcher(pool=self._pool, tell=notifier.tell)
        except RotatorError:
            app.close()
            raise
        return _Dispatching(
            settings=settings,
            app=app,
            dispatcher=dispatcher,
            notifier=notifier,
            reporting=ReportingConsumers.of(settings, app.resolve, self._log),
        )

    @contextmanager
    def _also_serving(self) -> Generator[None]:
        """Take the reports of consumers, where the configuration says so."""
        settings = self._generation.settings.daemon.reports
        if settings is None:
            yield
            return
        server = Server(
            settings.listen,
            self._answer_report,
            accepts=("GET", "POST"),
            tls=_tls(settings),
            option="daemon.reports.listen",
        )
        self._reports.start()
        server.start()
        self._log.info("consumers report", listen=server.address)
        try:
            yield
        finally:
            self._reports.close()
            server.close()

    def _answer_report(self, request: HttpRequest) -> HttpResponse:
        of_scanner = request.path.startswith(PREFIX)
        return (self._leaks if of_scanner else self._reports).answer(request)

    def _observe(self, event: Event) -> None:
        super()._observe(event)
        version = text(event.data, "version")
        # What another system was asked for is not served before it is proven.
        awaited = event.step in (Step.REQUEST, Step.AWAIT)
        published = event.kind in (Kind.FINISHED, Kind.ADOPTED) and not awaited
        if published and version is not None:
            # Of a publish, a proof, a restore or an adoption: each names the version that is served now.
            self._reports.published(event.secret, version)

    def _listen(self) -> str:
        return self._generation.settings.daemon.listen

    def _timed(self) -> Mapping[Callable[[], None], float]:
        duty = self._generation.settings.daemon
        found = {self._tick: _TICK, self._sign: duty.checkpoint_every.total_seconds()}
        found[self._look_at_logins] = _LOOK_AT_LOGINS
        if duty.dispatch is Dispatch.PROCRASTINATE:
            found |= {self._collect: _COLLECT, self._count_workers: _COUNT_WORKERS}
        return found

    def _start(self) -> None:
        self._tick()

    def _wake(self, names: set[str]) -> None:
        self._generation.dispatcher.wake(names)

    # -- periodic calls, in the scheduler's threads --------------------------------------------

    def _tick(self) -> None:
        try:
            self._generation.dispatcher.tick()
            self._close_old()
        except RotatorError as error:
            self._log.error("tick", what=error.what)  # tried again in a second
        tell_systemd("WATCHDOG=1")

    def _collect(self) -> None:
        self._generation.dispatcher.collect()

    def _count_workers(self) -> None:
        queue = self._generation.app.queue
        try:
            count = queue.workers() if queue is not None else 0
        except RotatorError as error:
            self._log.error("queue", what=error.what)  # as above
            return
        self._metrics.workers.set(count)
        if not count and self._generation.dispatcher.running:
            self._log.warning("no worker", hint="Start one: rotator worker")

    def _look_at_logins(self) -> None:
        """List the logins of targets for the report, unless checks are disabled."""
        made = self._generation
        if made.settings.daemon.verify_every is not None:
            self._logins.look(made.app, made.settings.targets, made.dispatcher.hosts_away())

    def _sign(self) -> None:
        app = self._generation.app
        try:
            found = [f"{one.where}: {one.what}" for one in app.watch_journal().damage]
            signed = app.checkpoint()
            if signed is not None:
                self._metrics.checkpoint.set(app.clock.now().timestamp())
                seen = {"number": signed.number, "hash": signed.hash}
                self._generation.notifier.tell(Topic.CHECKPOINT, "", seen)
        except JournalBroken as error:
            found = [str(error)]
        except RotatorError as error:
            self._log.error("checkpoint", what=error.what)  # as above
            return
        self._metrics.sound.set(not found)
        if found:
            self._log.error("journal", what=found[0], places=len(found))
            facts = {"what": found[0], "hint": "rotator audit verify"}
            self._generation.notifier.tell(Topic.JOURNAL_BROKEN, "", facts)

    def _last(self) -> None:
        self._sign()
        if self._pool is not None:
            self._pool.shutdown(wait=False)

    # -- heartbeats -------------------------------------------------------------------------

    def _now(self) -> datetime:
        return self._generation.app.clock.now()

    def _away(self) -> Mapping[str, datetime]:
        return self._generation.dispatcher.hosts_away()

    def _instances(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Return how many instances of which consumer use the current version, and an older one."""
        registry = self._generation.app.consumers
        reports = [one.report for one in registry.instances()]
        served = registry.served({report.secret for report in reports})
        found: dict[tuple[str, str], tuple[int, int]] = {}
        for report in reports:
            current, older = found.get((report.secret, report.consumer), (0, 0))
            on_current = report.version == served.get(report.secret)
            found[report.secret, report.consumer] = (
                current + on_current,
                older + (not on_current),
            )
        return found

    def _jobs(self) -> dict[str, int]:
        generations = cast("list[_Dispatching]", self._generations())
        return {
            "running": sum(one.dispatcher.running for one in generations),
            "waiting": self._generation.dispatcher.waiting,
        }

    def _alive(self) -> bool:
        looked = self._generation.dispatcher.looked_at
        return looked is not None and self._now() - looked < SILENT

    def _ready(self) -> str | None:
        ticked = self._generation.dispatcher.ticked_at
        if ticked is None or self._now() - ticked > SILENT:
            return "the audit journal does not answer: nothing is done"
        return None


def _tls(settings: ReportListener) -> ssl.SSLContext | None:
    """Return the server's side of TLS; None where nothing leaves this machine. Raises `UsageError`."""
    if settings.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.certificate, settings.key)
    except (OSError, ssl.SSLError) as error:
        why = error.strerror or type(error).__name__
        raise UsageError(
            f"daemon.reports: certificate {settings.certificate} and its key cannot be used ({why}).",
            hint="Both must be PEM files that belong together; the key must be without a passphrase.",
        ) from error
    return context
