"""The daemon's interface for consumers, over a real connection."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest

from rotator.core.consumers import Level, Report
from rotator.core.errors import JournalError
from rotator.faces.consumer_reports import ConsumerReports, ReportingConsumers, _digest
from rotator.faces.http_server import Server
from rotator.testing.certificates import make_certificates
from rotator.testing.fake_journal import MemoryConsumers
from rotator.testing.fakes import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

TOKEN: Final = "web-token-of-the-tests"
ROW: Final = {
    "secret": "shop",
    "version": "7",
    "level": "used",
    "instance": "web-1",
    "kind": "client",
}


@dataclass
class Registry(MemoryConsumers):
    """What the journal keeps, in memory; it can be away."""

    versions: dict[str, str] = field(default_factory=lambda: {"shop": "7"})
    upcoming: dict[str, str] = field(default_factory=dict[str, str])
    away: bool = False
    writes: int = 0

    def __post_init__(self) -> None:
        MemoryConsumers.__init__(self, ManualClock())

    def report(self, reports: Sequence[Report]) -> set[str]:
        self._answer()
        self.writes += 1
        return super().report(reports)

    def unpublished(self, versions: set[tuple[str, str]]) -> set[tuple[str, str]]:
        self._answer()
        return {(secret, one) for secret, one in versions if one not in ("6", "7", "8")}

    def served(self, secrets: Sequence[str]) -> dict[str, str]:
        self._answer()
        return {one: self.versions[one] for one in secrets if one in self.versions}

    def unknown_rotations(self, named: set[tuple[str, str]]) -> set[tuple[str, str]]:
        self._answer()
        return {(secret, one) for secret, one in named if not one.startswith("r-")}

    def following(self, secrets: Sequence[str]) -> dict[str, str]:
        self._answer()
        return {one: self.upcoming[one] for one in secrets if one in self.upcoming}

    def _answer(self) -> None:
        if self.away:
            raise JournalError("away.")


@dataclass
class Api:
    """A running interface, and a client of it."""

    registry: Registry
    reports: ConsumerReports
    address: str
    news: list[set[str]]

    def call(
        self, method: str, path: str, body: object = None, token: str | None = TOKEN
    ) -> tuple[int, Any]:
        link = http.client.HTTPConnection(self.address, timeout=10)
        try:
            data = body if isinstance(body, bytes) else json.dumps(body).encode() if body else None
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            link.request(method, path, data, headers)
            answer = link.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text.startswith(b"{") else text.decode()
        finally:
            link.close()

    def report(self, *rows: object, token: str | None = TOKEN) -> tuple[int, Any]:
        return self.call("POST", "/v1/acknowledgements", {"acknowledgements": list(rows)}, token)


@pytest.fixture
def api() -> Iterator[Api]:
    registry, news = Registry(), list[set[str]]()
    consumers = ReportingConsumers(
        by_token={_digest(TOKEN): "web", _digest("job-token"): "job"},
        secrets={"web": frozenset({"shop", "pay"}), "job": frozenset()},
    )
    reports = ConsumerReports(
        consumers=lambda: consumers,
        registry=lambda: registry,  # pyright: ignore[reportArgumentType]
        on_news=news.append,
    )
    server = Server("127.0.0.1:0", reports.answer, accepts=("GET", "POST"))
    reports.start()
    server.start()
    yield Api(registry=registry, reports=reports, address=server.address, news=news)
    reports.close()
    server.close()


def test_a_report_is_written_before_it_is_answered(api: Api):
    """And those that work on the secret hear of it."""
    assert api.report(ROW) == (204, "")
    (one,) = api.registry.instances("shop")
    assert (one.report.consumer, one.report.instance) == ("web", "web-1")
    assert (one.report.version, one.report.level) == ("7", Level.USED)
    assert api.news == [{"shop"}]


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x", "é"])
def test_without_the_right_token_nothing_is_accepted(api: Api, token: str | None):
    """Neither reports nor questions, and the answer repeats no token."""
    status, answer = api.report(ROW, token=token and token.encode().decode("latin-1"))
    assert (status, answer) == (401, {"error": "the token is missing or unknown"})
    assert api.call("GET", "/v1/versions?secret=shop", token=None)[0] == 401
    assert api.registry.instances() == []


def test_a_consumer_reports_only_about_its_own_secrets(api: Api):
    """The others are named, and nothing of the request is taken."""
    status, answer = api.report(ROW, ROW | {"secret": "payroll"})
    assert status == 403
    assert answer["secrets"] == ["payroll"]
    assert api.report(ROW, token="job-token")[0] == 403
    assert api.call("GET", "/v1/versions?secret=payroll")[0] == 403
    assert api.registry.instances() == []


def test_a_version_that_was_never_published_is_rejected(api: Api):
    """The other rows are taken."""
    status, answer = api.report(ROW, ROW | {"instance": "web-2", "version": "99"})
    assert status == 422
    assert answer["rejected"] == [
        {"secret": "shop", "version": "99", "what": "this version was never published"}
    ]
    assert [one.report.instance for one in api.registry.instances()] == ["web-1"]


def test_a_body_that_is_too_long_is_not_read(api: Api):
    """One megabyte is enough for a thousand rows."""
    assert api.call("POST", "/v1/acknowledgements", b"x" * 1_000_001)[0] == 413


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("PUT", "/v1/versions", 501), ("POST", "/v1/versions", 404)],
)
def test_other_requests_are_rejected(api: Api, method: str, path: str, status: int):
    """Nothing else is served there."""
    assert api.call(method, path)[0] == status


def test_while_the_journal_is_away_a_report_is_refused_and_taken_later(api: Api):
    """The consumer sends it again."""
    api.registry.away = True
    assert api.report(ROW)[0] == 503
    assert api.call("GET", "/v1/versions?secret=shop")[0] == 503
    api.registry.away = False
    assert api.report(ROW)[0] == 204


def test_many_reports_at_once_are_few_writes(api: Api):
    """One transaction for all that came within a moment."""
    threads = [
        threading.Thread(target=api.report, args=[ROW | {"instance": f"web-{number}"}])
        for number in range(60)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(api.registry.instances()) == 60
    assert api.registry.writes < 20


def test_a_report_about_the_next_version_is_beside_the_others(api: Api):
    """It names the rotation, and takes nothing back of what is used now."""
    used = ROW | {"level": "used"}
    assert api.report(used, ROW | {"version": "r-2", "level": "prepared"})[0] == 204
    assert [one.report.level for one in api.registry.instances("shop")] == [Level.USED]
    (prepared,) = api.registry.prepared("shop")
    assert (prepared.report.version, prepared.report.level) == ("r-2", Level.PREPARED)
    assert {"shop"} in api.news


def test_a_report_about_an_unknown_rotation_is_rejected_and_the_others_are_written(api: Api):
    status, answer = api.report(ROW, ROW | {"version": "8", "level": "prepared"})
    assert status == 422
    assert answer["rejected"] == [
        {"secret": "shop", "version": "8", "what": "the journal does not know this rotation"}
    ]
    assert len(api.registry.instances("shop")) == 1
    assert api.registry.prepared("shop") == []


def test_a_question_about_the_next_version_is_answered_as_soon_as_there_is_one(api: Api):
    """And as soon as there is none any more; who does not ask for it is not woken."""
    asked = "/v1/versions?secret=shop&known=shop%3A7"
    assert api.call("GET", asked + "&next=shop%3A")[1] == {"versions": {"shop": "7"}, "next": {}}
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(api.call, "GET", asked + "&next=shop%3A&wait=30")
        api.registry.upcoming["shop"] = "r-2"
        assert waiting.result(10)[1] == {"versions": {"shop": "7"}, "next": {"shop": "r-2"}}
        assert api.call("GET", asked + "&wait=0.6")[1] == {"versions": {"shop": "7"}}
        waiting = pool.submit(api.call, "GET", asked + "&next=shop%3Ar-2&wait=30")
        api.registry.upcoming.clear()
        assert waiting.result(10)[1]["next"] == {}


def test_a_question_is_answered_at_once_where_something_else_is_served(api: Api):
    """Also where nothing is known yet."""
    begun = time.monotonic()
    asked = "/v1/versions?secret=shop&secret=pay&wait=30"
    assert api.call("GET", asked) == (200, {"versions": {"shop": "7"}})
    assert api.call("GET", asked + "&known=shop%3A6")[1] == {"versions": {"shop": "7"}}
    assert time.monotonic() - begun < 5


def test_a_question_waits_for_another_version(api: Api):
    """Told by the engine of the same process at once, by another process's within a second."""
    for tell in (
        lambda: api.reports.published("shop", "8"),
        lambda: api.registry.versions.update(shop="9"),
    ):
        known = api.call("GET", "/v1/versions?secret=shop")[1]["versions"]["shop"]
        timer = threading.Timer(0.2, tell)
        timer.start()
        begun = time.monotonic()
        _, answer = api.call("GET", f"/v1/versions?secret=shop&known=shop%3A{known}&wait=30")
        assert answer["versions"]["shop"] != known
        assert time.monotonic() - begun < 3
        api.registry.versions["shop"] = answer["versions"]["shop"]


def test_a_question_ends_after_its_wait(api: Api):
    """With what is served."""
    begun = time.monotonic()
    asked = "/v1/versions?secret=shop&known=shop%3A7&wait=0.3"
    assert api.call("GET", asked) == (200, {"versions": {"shop": "7"}})
    assert 0.2 < time.monotonic() - begun < 3


@pytest.mark.parametrize("wait", ["-1", "61", "nan", "soon"])
def test_an_invalid_wait_is_rejected(api: Api, wait: str):
    """A question ends within a minute."""
    assert api.call("GET", f"/v1/versions?secret=shop&wait={wait}")[0] == 400


def test_it_is_served_over_tls(tmp_path: Path):
    """A client that trusts the certificate's authority gets an answer, another one does not."""
    make_certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    reports = ConsumerReports(
        consumers=lambda: ReportingConsumers(by_token={}, secrets={}),
        registry=Registry,  # pyright: ignore[reportArgumentType]
        on_news=lambda _names: None,
    )
    server = Server("127.0.0.1:0", reports.answer, accepts=("GET", "POST"), tls=context)
    server.start()
    try:
        host, _, port = server.address.rpartition(":")
        trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
        link = http.client.HTTPSConnection(host, int(port), timeout=5, context=trusting)
        link.request("GET", "/v1/versions?secret=shop")
        assert link.getresponse().status == 401
        link.close()
        strange = http.client.HTTPSConnection(host, int(port), timeout=5)
        with closing(strange), pytest.raises(ssl.SSLCertVerificationError):
            strange.request("GET", "/")
        plain = http.client.HTTPConnection(host, int(port), timeout=5)
        plain.request("GET", "/")
        with closing(plain), pytest.raises((http.client.HTTPException, OSError)):
            plain.getresponse()
    finally:
        server.close()
