"""A password is replaced in place, on a real server, while processes read the next one before."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from rotator import logs
from rotator.bootstrap import initialise, open_app
from rotator.client import Credential, Daemon
from rotator.client import psycopg as psycopg_client
from rotator.client.sources import LocalSource
from rotator.core.consumers import Level
from rotator.core.model import Outcome, Step
from rotator.faces.consumer_reports import ConsumerReports, ReportingConsumers, _digest
from rotator.faces.http_server import Server
from rotator.testing.postgres import ScratchPostgres
from tests.load.chaos_targets import PostgresChaosTarget

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from rotator.bootstrap import App

_TOKEN: Final = "a-token-of-the-consumer"
_PROCESSES: Final = 4
_CONFIG: Final = """\
version: 1
journal: {{url: "sqlite:///journal.db", signing_key: "local:rotator/audit#private_key"}}
backends:
  local: {{type: local, path: secrets.db, key: "file:rotator.key"}}
targets:
  shop: {target}
consumers:
  web: {{instances: {processes}, token: "env:UNUSED"}}
secrets:
  single:
    target: shop
    backend: local
    strategy: single-user
    options: {{username: single, group: app_owner}}
    consumers: [web]
    policy: {{prepare: {{wait: 60s, then: hold}}, retry: {{backoff: 50ms}}}}
"""


class Place:
    """A server, a rotated login, and the daemon's interface for its consumers."""

    def __init__(self, app: App, server: ScratchPostgres, folder: Path) -> None:
        self.app: App = app
        self.server: ScratchPostgres = server
        self.url: str = ""
        self.news: threading.Event = threading.Event()
        self._folder: Path = folder

    def source(self) -> LocalSource:
        file, key_file = self._folder / "secrets.db", self._folder / "rotator.key"
        return LocalSource("single", file=file, key_file=key_file, refresh=0.2)

    def refused(self) -> int:
        """Return how many logins the server has refused."""
        return self.server.log_text().count('password authentication failed for user "single"')

    def rotate(self) -> timedelta:
        """Rotate as the daemon does: on each report. Return how long the consumers were waited for."""
        secret = self.app.secret("single")
        result = self.app.engine.rotate(secret)
        assert result.error is None, result.error
        deadline = time.monotonic() + 60
        while result is not None and result.outcome is None:
            assert time.monotonic() < deadline, result.waiting
            _ = self.news.wait(0.5)
            self.news.clear()
            result = self.app.engine.resume(secret)
        assert result is not None
        assert result.outcome is Outcome.DONE
        assert result.rotation_id is not None
        history = self.app.journal.history(result.rotation_id)
        times = [event.at for event in history if event.step is Step.PREPARE]
        return times[-1] - times[0] if times else timedelta(0)


@contextmanager
def _opened(folder: Path) -> Generator[Place]:
    logs.set_up(level="off")
    with ExitStack() as stack:
        server = stack.enter_context(ScratchPostgres())
        target = stack.enter_context(PostgresChaosTarget(server))
        (folder / "admin-password").touch(mode=0o600)
        (folder / "admin-password").write_text(target.password)
        text = _CONFIG.format(target=target.target, processes=_PROCESSES)
        initialise(folder / "rotator.yaml", text)
        app = stack.enter_context(open_app(folder / "rotator.yaml", face="client"))
        place = Place(app, server, folder)
        consumers = ReportingConsumers(
            by_token={_digest(_TOKEN): "web"}, secrets={"web": frozenset({"single"})}
        )
        reports = ConsumerReports(
            consumers=lambda: consumers,
            registry=lambda: app.consumers,
            on_news=lambda _secrets: place.news.set(),
        )
        http = Server("127.0.0.1:0", reports.answer, accepts=("GET", "POST"))
        reports.start()
        http.start()
        stack.callback(http.close)
        stack.callback(reports.close)
        place.url = f"http://{http.address}"
        assert place.rotate() == timedelta(0)
        yield place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with _opened(tmp_path_factory.mktemp("prepare")) as opened:
        yield opened


class Process:
    """Stands for a process: a client of its own, which logs in again and again."""

    def __init__(self, place: Place) -> None:
        self._server: ScratchPostgres = place.server
        self.daemon: Daemon = Daemon(place.url, token=_TOKEN)
        self.credential: Credential = Credential(
            place.source(), daemon=self.daemon, name="single", patience=5.0
        )
        self.errors: list[Exception] = []
        self.slowest: float = 0.0
        self.logins: int = 0
        self._stop: threading.Event = threading.Event()
        self._thread: threading.Thread = threading.Thread(target=self._work)

    def __enter__(self) -> Process:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        self.credential.close()
        self.daemon.close()

    def _work(self) -> None:
        options: dict[str, Any] = {
            "host": self._server.host,
            "port": self._server.port,
            "dbname": "shop",
        }
        while not self._stop.is_set():
            begun = time.monotonic()
            try:
                with closing(psycopg_client.connect(self.credential, **options)) as connection:
                    _ = connection.execute("SELECT 1")
            except Exception as error:  # noqa: BLE001 # whatever an application would see
                self.errors.append(error)
            self.slowest = max(self.slowest, time.monotonic() - begun)
            self.logins += 1
            _ = self._stop.wait(0.01)


@pytest.mark.parametrize("rotations", [4, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.timeout(600)
def test_a_process_has_at_most_one_refused_login_in_a_rotation(place: Place, rotations: int):
    """Counted in the server's log; the application sees none of them."""
    before = place.refused()
    with ExitStack() as stack:
        processes = [stack.enter_context(Process(place)) for _ in range(_PROCESSES)]
        deadline = time.monotonic() + 30
        while len(place.app.consumers.instances("single")) < _PROCESSES:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        waits = [place.rotate() for _ in range(rotations)]
    logins = [process.logins for process in processes]
    errors = [error for process in processes for error in process.errors]
    of_each = [process.credential.health().refused for process in processes]
    # The engine proves after each rotation that the old password is refused.
    refused = place.refused() - before - rotations
    slowest = max(process.slowest for process in processes)
    print(f"{rotations} rotations, {sum(logins)} logins, {refused} refused,", end=" ")
    print(f"slowest login {slowest:.3f} s, longest wait for the consumers {max(waits)}")
    assert errors == []
    assert refused == sum(of_each)
    assert max(of_each) <= rotations
    assert max(waits) < timedelta(seconds=30)


def test_a_process_that_is_gone_is_not_waited_for_without_end(place: Place):
    """An operator goes on without it; nothing of the next version is left."""
    secret = place.app.secret("single")
    result = place.app.engine.rotate(secret)
    assert result.outcome is None
    assert place.source().next() is not None
    assert place.app.engine.revoke(secret, reason="gone").outcome is Outcome.DONE
    assert place.source().next() is None
    reported = place.app.consumers.prepared("single")
    assert all(one.report.level is Level.PREPARED for one in reported)
